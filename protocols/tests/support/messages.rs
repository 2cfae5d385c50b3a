//! The bytes of single messages, for `conversations.rs`.

/// An HTTP/2 frame; the number of its stream stands at offset 5.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's payload").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const SETTINGS: u8 = 4;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A field by its index (RFC 7541, section 6.1).
pub fn indexed(index: u8) -> Vec<u8> {
    vec![0x80 | index]
}

/// A field whose name is in the static table, entered into the dynamic one (section 6.2.1).
pub fn entered(name: u8, value: &str) -> Vec<u8> {
    [&[0x40 | name, short(value)], value.as_bytes()].concat()
}

/// A field with a new name, entered into the dynamic table.
pub fn entered_name(name: &str, value: &str) -> Vec<u8> {
    [&[0x40, short(name)], name.as_bytes(), &[short(value)], value.as_bytes()].concat()
}

/// A field whose name has an index below 15, not entered (section 6.2.2).
pub fn plain(name: u8, value: &str) -> Vec<u8> {
    assert!(name < 15, "it fits the prefix");
    [&[name, short(value)], value.as_bytes()].concat()
}

/// A field with a new name, not entered.
pub fn plain_name(name: &str, value: &str) -> Vec<u8> {
    [&[0, short(name)], name.as_bytes(), &[short(value)], value.as_bytes()].concat()
}

fn short(text: &str) -> u8 {
    u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text")
}

/// A gRPC message in its frame.
pub fn grpc(length: u8) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, length];
    message.extend(std::iter::repeat_n(b'm', length.into()));
    message
}

/// A Redis command as clients send it.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| text.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    text.into_bytes()
}

/// A message of PostgreSQL with its type; 0 for those that have none.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = if kind == 0 { Vec::new() } else { vec![kind] };
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    message
}

/// A `RowDescription` of one integer column.
pub fn row_description(name: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend_from_slice(name.as_bytes());
    body.extend([0; 7]);
    body.extend(23_u32.to_be_bytes());
    body.extend([0, 4, 255, 255, 255, 255, 0, 0]);
    message(b'T', &body)
}

/// A `DataRow` of one column.
pub fn data_row(value: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend((value.len() as u32).to_be_bytes());
    body.extend_from_slice(value);
    message(b'D', &body)
}
