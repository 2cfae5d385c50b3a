//! A connection between h2's client and h2's server, in memory, with someone in between who writes down all calls, and
//! who now and then tells one end that the other's table has changed its size, which `h2` has no way to say.

use std::sync::Arc;

use bytes::Bytes;
use h2::{RecvStream, client, server};
use http::{Request, Response};
use spantap_protocols::{BootNanos, Direction, testing::Chunk};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    plan::{Message, Plan, Planned},
    wire::{self, Frame},
};

/// A change of the size of a table: towards whom it is said, and the size.
type Resize = (Direction, u32);

/// The calls of the whole conversation, a microsecond apart.
pub(super) fn hold(plan: &Arc<Plan>) -> Vec<Chunk> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(async {
        let (client, near) = duplex(PIPE_BYTES);
        let (far, server) = duplex(PIPE_BYTES);
        let (say, said) = unbounded_channel();
        let serving = tokio::spawn(serve(server, plan.clone()));
        let carrying = tokio::spawn(carry(near, far, said, plan.piece));
        converse(client, plan, say).await;
        serving.await.expect("the server ends");
        carrying.await.expect("all is carried")
    })
}

async fn converse(io: DuplexStream, plan: &Plan, say: UnboundedSender<Resize>) {
    let mut builder = client::Builder::new();
    let (mut requests, connection) =
        builder.header_table_size(plan.tables[0]).handshake::<_, Bytes>(io).await.expect("a handshake");
    let driving = tokio::spawn(connection);
    let mut open: Vec<tokio::task::JoinHandle<()>> = Vec::new();
    for planned in &plan.exchanges {
        if planned.alone {
            for exchange in open.drain(..) {
                exchange.await.expect("no panic");
            }
        }
        if let Some((towards, bytes)) = planned.table {
            // No more than what the decoder there has promised to take.
            let most = plan.tables[usize::from(towards == Direction::ToClient)];
            say.send((towards, bytes.min(most))).expect("it is carried");
        }
        requests = requests.ready().await.expect("the connection lives");
        let mut request = Request::builder()
            .method(planned.method.clone())
            .uri(format!("{ORIGIN}{}", planned.target()))
            .body(())
            .expect("a request");
        *request.headers_mut() = planned.request.fields.clone();
        let (response, mut stream) =
            requests.send_request(request, planned.request.ends_at_once()).expect("h2 takes the request");
        send(&planned.request, &mut stream);
        // All at once: what one of them does not read would fill the connection's window.
        open.push(tokio::spawn(async { receive(response.await.expect("a response").into_body()).await }));
    }
    for exchange in open {
        exchange.await.expect("no panic");
    }
    drop(requests);
    driving.await.expect("no panic").expect("an orderly end");
}

async fn serve(io: DuplexStream, plan: Arc<Plan>) {
    let mut builder = server::Builder::new();
    let mut connection =
        builder.header_table_size(plan.tables[1]).handshake::<_, Bytes>(io).await.expect("a handshake");
    while let Some(request) = connection.accept().await {
        let (request, respond) = request.expect("h2 reads what h2 writes");
        tokio::spawn(answer(request, respond, plan.clone()));
    }
}

async fn answer(request: Request<RecvStream>, mut respond: server::SendResponse<Bytes>, plan: Arc<Plan>) {
    let nth: usize = request.uri().path().trim_start_matches('/').parse().expect("its number");
    let planned: &Planned = &plan.exchanges[nth];
    receive(request.into_body()).await;
    let mut response = Response::builder().status(planned.status).body(()).expect("a response");
    *response.headers_mut() = planned.response.fields.clone();
    let ends = planned.response.ends_at_once();
    send(&planned.response, &mut respond.send_response(response, ends).expect("h2 takes the response"));
}

async fn receive(mut body: RecvStream) {
    while let Some(data) = body.data().await {
        let data = data.expect("DATA");
        body.flow_control().release_capacity(data.len()).expect("a window");
    }
    let _ = body.trailers().await.expect("trailers or none");
}

fn send(message: &Message, stream: &mut h2::SendStream<Bytes>) {
    if message.body > 0 {
        let body = Bytes::from(vec![b'b'; message.body]);
        stream.send_data(body, message.trailers.is_none()).expect("h2 takes the body");
    }
    if let Some(trailers) = &message.trailers {
        stream.send_trailers(trailers.clone()).expect("h2 takes trailers");
    }
}

impl Message {
    fn ends_at_once(&self) -> bool {
        self.body == 0 && self.trailers.is_none()
    }
}

/// Carries bytes between the two, in pieces, frame by frame, and returns what each end was given.
async fn carry(
    mut client: DuplexStream,
    mut server: DuplexStream,
    mut said: UnboundedReceiver<Resize>,
    piece: usize,
) -> Vec<Chunk> {
    let mut calls = Vec::new();
    let (mut to_server, mut to_client) = (Half::new(wire::PREFACE.len()), Half::new(0));
    let (mut asks, mut answers) = (vec![0; piece], vec![0; piece]);
    let mut client_open = true;
    loop {
        let direction = tokio::select! {
            // The same input is the same conversation.
            biased;
            Some((towards, bytes)) = said.recv() => {
                let half = if towards == Direction::ToServer { &mut to_server } else { &mut to_client };
                half.sizes.push(bytes);
                towards
            }
            count = client.read(&mut asks), if client_open => {
                let count = count.expect("memory");
                client_open = count > 0;
                if !client_open {
                    let _ = server.shutdown().await;
                }
                to_server.waiting.extend_from_slice(&asks[..count]);
                Direction::ToServer
            }
            count = server.read(&mut answers) => {
                let count = count.expect("memory");
                if count == 0 {
                    return calls;
                }
                to_client.waiting.extend_from_slice(&answers[..count]);
                Direction::ToClient
            }
        };
        let at = BootNanos(1_000 * (calls.len() as u64 + 1));
        let (half, other, to) = match direction {
            Direction::ToServer => (&mut to_server, &mut to_client, &mut server),
            Direction::ToClient => (&mut to_client, &mut to_server, &mut client),
        };
        let bytes = half.pass(&mut other.acks_due);
        // Who has ended takes nothing more.
        if !bytes.is_empty() && to.write_all(&bytes).await.is_ok() {
            calls.push(Chunk { direction, first_at: at, last_at: at, bytes });
        }
    }
}

/// One direction of what is carried.
struct Half {
    /// Bytes that are not yet a frame.
    waiting: Vec<u8>,
    /// Of the preface, still to come.
    preface: usize,
    /// SETTINGS have passed, so that others may follow.
    begun: bool,
    in_block: bool,
    /// Sizes to be said where a frame ends.
    sizes: Vec<u32>,
    /// Acknowledgements, in this direction, of the end's own SETTINGS (true) and of those that were put in (false).
    acks_due: std::collections::VecDeque<bool>,
}

impl Half {
    fn new(preface: usize) -> Self {
        Self {
            waiting: Vec::new(),
            preface,
            begun: false,
            in_block: false,
            sizes: Vec::new(),
            acks_due: std::collections::VecDeque::new(),
        }
    }

    /// What goes on now. `due` are the acknowledgements that the other direction owes.
    fn pass(&mut self, due: &mut std::collections::VecDeque<bool>) -> Vec<u8> {
        let preface = self.preface.min(self.waiting.len());
        let mut out: Vec<u8> = self.waiting.drain(..preface).collect();
        self.preface -= preface;
        if self.preface > 0 {
            return out;
        }
        let mut at = 0;
        while let Some(frame) = self.waiting.get(at..).and_then(Frame::first) {
            at += frame.0.len();
            // Nobody waits for an answer to what was put in.
            if frame.is_settings_ack() && self.acks_due.pop_front() == Some(false) {
                continue;
            }
            if frame.is_settings() {
                due.push_back(true);
                self.begun = true;
            }
            self.in_block = frame.leaves_block_open();
            out.extend_from_slice(frame.0);
        }
        self.waiting.drain(..at);
        if self.begun && !self.in_block {
            for bytes in self.sizes.drain(..) {
                due.push_back(false);
                out.extend(wire::table_size(bytes));
            }
        }
        out
    }
}

/// See `AUTHORITY`.
pub(super) const ORIGIN: &str = "http://peer.test";
/// More than a conversation has.
const PIPE_BYTES: usize = 16 * 1024 * 1024;
