//! The demo's HTTP client: a shopper who looks at things, asks for a report, and buys.

use std::{
    io::{BufRead, BufReader, Read, Result, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use super::workload::end_with_parent;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(120);

/// Asks for ever, over one connection that is kept.
pub(super) fn run(port: u16) -> Result<()> {
    end_with_parent();
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    for turn in 0_u32.. {
        let (method, path) = match turn % 8 {
            0 => ("GET", "/".to_owned()),
            3 => ("GET", "/report".to_owned()),
            5 | 7 => ("POST", "/checkout".to_owned()),
            6 if turn % 3 == 0 => ("GET", "/old-page?session=1".to_owned()),
            _ => ("GET", format!("/products/{}", 1000 + turn * 7)),
        };
        // One write: in pieces, Nagle's algorithm would wait for the server's delayed acknowledgement.
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: shop.example:{port}\r\nUser-Agent: shopper/1.0\r\n\r\n");
        writer.write_all(request.as_bytes())?;
        read_response(&mut reader)?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn read_response(reader: &mut BufReader<TcpStream>) -> Result<()> {
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.strip_prefix("Content-Length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length])
}
