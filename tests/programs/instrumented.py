#!/usr/bin/env python3
"""An HTTP server that exports its own telemetry with OpenTelemetry's SDK.

    instrumented.py PORT traces|traces-grpc|metrics|nothing URL_OF_THE_BACKEND URL_TO_ASK

The first batch is exported before the port is opened, each request's before it is answered. Each request is passed on to
URL_TO_ASK.
"""

import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, kind, backend, other = int(sys.argv[1]), *sys.argv[2:5]


def exporting_nothing(_name):
    pass


def exporting_traces():
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return exporting_spans(OTLPSpanExporter(backend + "/v1/traces"))


def exporting_traces_by_grpc():
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return exporting_spans(OTLPSpanExporter(backend, insecure=True))


def exporting_spans(exporter):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("instrumented")

    def export(name):
        with tracer.start_as_current_span(name):
            pass

    return export


def exporting_metrics():
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(OTLPMetricExporter(backend + "/v1/metrics"))
    provider = MeterProvider([reader])
    counter = provider.get_meter("instrumented").create_counter("requests")

    def export(_name):
        counter.add(1)
        assert provider.force_flush()

    return export


kinds = {"traces": exporting_traces, "traces-grpc": exporting_traces_by_grpc, "metrics": exporting_metrics}
export = kinds[kind]() if kind in kinds else exporting_nothing
export("start")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if other:
            urllib.request.urlopen(other + self.path).read()
        export(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
