//! Asks for each of the paths of the command line on one connection over TLS: port, paths. Prints its own port, and the
//! number of answers with the status 200.

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use native_tls::TlsConnector;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let port: u16 = arguments.next().ok_or("no port")?.parse()?;
    let connector = TlsConnector::builder()
        .danger_accept_invalid_certs(true)
        .danger_accept_invalid_hostnames(true)
        .build()?;
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    let own_port = socket.local_addr()?.port();
    let mut connection = BufReader::new(connector.connect("127.0.0.1", socket)?);
    let mut good = 0;
    for path in arguments {
        write!(connection.get_mut(), "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
        let (mut length, mut status) = (0, true);
        loop {
            let mut line = String::new();
            connection.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if std::mem::take(&mut status) {
                good += u32::from(line.contains(" 200 "));
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        connection.read_exact(&mut vec![0; length])?;
    }
    println!("{own_port} {good}");
    Ok(())
}
