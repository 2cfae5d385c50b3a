//! Which labels tell services apart? `job` and `instance`, as the OpenTelemetry collector makes them.
//!
//! > `service.name` and `service.namespace` MUST be combined as `<service.namespace>/<service.name>` to form the `job`;
//! > `service.instance.id` MUST be converted to the `instance` label. (Prometheus compatibility, "Resource Attributes")
//!
//! Two services may have the same of both: replicas with other executables. A scrape with two values of one series is
//! refused as a whole, so those get an instance made of all their attributes. A service without either has no label
//! `instance`: then that of the scrape stands, which is the node. (The collector gives an empty one, with which
//! `honor_labels` would make one series of those of all nodes.)

use std::collections::{HashMap, HashSet};

use spantap_protocols::{Value, semconv::key};

use super::names;
use crate::telemetry::{Service, snapshot::ServiceMetrics};

/// The labels of every sample of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `job="shop",instance="7"`, and the scope's name and version if they are wanted.
    pub labels: String,
    /// All that its resource says, as labels, with `job` and `instance`.
    pub info: String,
}

/// One for each service.
pub(super) fn targets(services: &[ServiceMetrics], with_scope: bool) -> Vec<Target> {
    let named: Vec<(String, String)> =
        services.iter().map(|service| (job(&service.service), instance(&service.service))).collect();
    let mut count: HashMap<&(String, String), u32> = HashMap::new();
    for name in &named {
        *count.entry(name).or_default() += 1;
    }
    let mut given = HashSet::new();
    let mut target = |(service, name): (&ServiceMetrics, &(String, String))| {
        let attributes = &service.service.attributes;
        let info =
            names::labels(attributes.iter().map(|(key, value)| (key.as_str(), value)), &["job", "instance"]);
        let mut labels = String::from("job=\"");
        names::put_escaped(&mut labels, &name.0, true);
        labels.push('"');
        let shared = count.get(name).is_some_and(|services| *services > 1);
        let mut instance = if shared { format!("{:016x}", hash(&info)) } else { name.1.clone() };
        // All that they say is the same as text: only their order is left.
        while shared && !given.insert((name.0.clone(), instance.clone())) {
            instance.push('+');
        }
        if !instance.is_empty() {
            labels.push_str(",instance=\"");
            names::put_escaped(&mut labels, &instance, true);
            labels.push('"');
        }
        let info = if info.is_empty() { labels.clone() } else { format!("{labels},{info}") };
        if with_scope {
            labels.push_str(concat!(
                ",otel_scope_name=\"spantap\",otel_scope_version=\"",
                env!("CARGO_PKG_VERSION"),
                "\""
            ));
        }
        Target { labels, info }
    };
    services.iter().zip(&named).map(&mut target).collect()
}

fn job(service: &Service) -> String {
    match text(service, key::SERVICE_NAMESPACE) {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{}", service.name),
        _ => service.name.to_string(),
    }
}

fn instance(service: &Service) -> String {
    text(service, key::SERVICE_INSTANCE_ID).unwrap_or_default().to_owned()
}

fn text<'a>(service: &'a Service, name: &str) -> Option<&'a str> {
    service.attributes.get(name).and_then(Value::as_str)
}

/// FNV-1a: the same in every run, so that a restart makes no new series. <http://www.isthe.com/chongo/tech/comp/fnv/>
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spantap_protocols::Attributes;

    use super::*;

    fn service(name: &str, more: &[(&'static str, &'static str)]) -> ServiceMetrics {
        let mut attributes = Attributes::new();
        attributes.push(key::SERVICE_NAME, Value::Text(name.into()));
        more.iter().for_each(|(name, value)| attributes.push(*name, Value::Static(value)));
        let service = Arc::new(Service { id: 1, name: name.into(), attributes });
        ServiceMetrics { service, metrics: Vec::new(), numbers: Vec::new() }
    }

    #[test]
    fn a_service_is_a_job() {
        let plain = service("sh\"op", &[]);
        let whole = service("cart", &[(key::SERVICE_NAMESPACE, "eu"), (key::SERVICE_INSTANCE_ID, "7")]);
        let [plain, whole] = &targets(&[plain, whole], false)[..] else { panic!("two") };
        assert_eq!(plain.labels, r#"job="sh\"op""#);
        assert_eq!(plain.info, r#"job="sh\"op",service_name="sh\"op""#);
        assert_eq!(whole.labels, r#"job="eu/cart",instance="7""#);
        assert!(
            whole.info.ends_with(r#",service_instance_id="7",service_name="cart",service_namespace="eu""#)
        );
    }

    #[test]
    fn services_of_one_name_are_told_apart_in_the_same_way_every_time() {
        let of = |path| service("cart", &[(key::PROCESS_EXECUTABLE_PATH, path)]);
        let found = targets(&[of("/a"), of("/b"), service("shop", &[])], true);
        assert_ne!(found[0].labels, found[1].labels);
        let turned = targets(&[of("/b"), of("/a")], true);
        assert_eq!([&turned[1], &turned[0]], [&found[0], &found[1]]);
        let same = targets(&[of("/a"), of("/a")], false);
        assert_ne!(same[0].labels, same[1].labels, "a scrape must not have a series twice");
        assert!(found[2].labels.contains(r#"job="shop",otel_scope_name="spantap""#), "{found:?}");
    }
}
