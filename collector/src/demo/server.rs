//! The demo's HTTP server: a page, a product, a slow route and a failing one. Just enough HTTP to be real.

use std::{
    io::{BufRead, BufReader, Result, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use super::workload::end_with_parent;

/// Prints its port and serves for ever.
pub(super) fn run() -> Result<()> {
    end_with_parent();
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

/// Answers requests until the client leaves.
fn serve(stream: TcpStream) -> Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut orders = 0;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            header.clear();
        }
        let mut words = request.split_whitespace();
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (status, body) = match (method, path) {
            ("GET", "/") => ("200 OK", "<h1>shop</h1>\n".to_owned()),
            ("GET", path) if path.starts_with("/products/") => {
                thread::sleep(Duration::from_millis(3));
                ("200 OK", format!("{{\"product\":\"{}\"}}\n", &path["/products/".len()..]))
            }
            ("GET", "/report") => {
                thread::sleep(Duration::from_millis(250));
                ("200 OK", "slow, but sure\n".repeat(200))
            }
            ("POST", "/checkout") => {
                orders += 1;
                thread::sleep(Duration::from_millis(12));
                if orders % 3 == 0 {
                    ("500 Internal Server Error", "the payment service is down\n".to_owned())
                } else {
                    ("201 Created", "thank you\n".to_owned())
                }
            }
            _ => ("404 Not Found", "no such page\n".to_owned()),
        };
        let length = body.len();
        let response =
            format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}");
        writer.write_all(response.as_bytes())?;
    }
}
