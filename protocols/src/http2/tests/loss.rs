//! What is still known of HPACK's table after bytes were lost, and what is not.

use super::*;

/// A call of `/a/b`: the first fills the table, later ones refer to it.
fn call(stream: u32) -> Vec<u8> {
    let block = match stream {
        1 => [b"\x83\x86\x44\x04/a/b\x5f\x10".as_slice(), b"application/grpc"].concat(),
        _ => vec![0x83, 0x86, 0xbf, 0xbe],
    };
    frame(HEADERS, END_HEADERS, stream, &block)
}

fn answer(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[0x88])
}

/// `grpc-status: 0`.
fn trailers(stream: u32) -> Vec<u8> {
    let block = match stream {
        1 => b"\x40\x0bgrpc-status\x010".as_slice(),
        _ => b"\xbe",
    };
    frame(HEADERS, BOTH, stream, block)
}

/// One after the other so far.
fn after_one_call() -> Conversation {
    let mut conversation = Conversation::begun(Role::Server);
    conversation.say(ToServer, &[&call(1), &frame(0, END_STREAM, 1, b"\0\0\0\0\0")]);
    conversation.say(ToClient, &[&answer(1), &trailers(1)]);
    conversation
}

/// `method status` of each; `?` where the status is not known.
fn calls(conversation: &Conversation) -> Vec<String> {
    let text =
        |exchange: &Exchange, key| exchange.attributes.get(key).and_then(Value::as_str).map(str::to_owned);
    let one = |exchange: &Exchange| {
        let method = text(exchange, key::RPC_METHOD).unwrap_or_default();
        format!(
            "{method} {}",
            text(exchange, key::RPC_RESPONSE_STATUS_CODE).unwrap_or_else(|| "?".to_owned())
        )
    };
    conversation.driver.exchanges.iter().map(one).collect()
}

/// DATA of which only the head is here, and frames behind it that are not.
fn long(stream: u32) -> Vec<u8> {
    let mut data = frame(0, 0, stream, &[7; 16_000]);
    data.truncate(100);
    data
}

#[test]
fn what_was_lost_of_a_response_was_its_data_if_nothing_else_can_have_come() {
    for (others, expected) in [(false, "a/b OK"), (true, "a/b ?")] {
        let mut conversation = after_one_call();
        conversation.say(ToServer, &[&call(3), &frame(0, END_STREAM, 3, b"\0\0\0\0\0")]);
        conversation.say(ToClient, &[&answer(3), &long(3)]);
        if others {
            conversation.say(ToServer, &[&call(5), &frame(0, END_STREAM, 5, b"\0\0\0\0\0")]);
        }
        conversation.lose(ToClient, 50_000);
        conversation.say(ToClient, &[&trailers(3)]);
        assert_eq!(calls(&conversation), ["a/b OK", expected], "another call under way: {others}");
    }
}

#[test]
fn what_was_lost_of_a_request_was_its_data_if_no_number_is_missing() {
    for (next, expected) in [(5, "a/b OK"), (7, "_OTHER OK")] {
        let mut conversation = after_one_call();
        conversation.say(ToServer, &[&call(3), &long(3)]);
        conversation.lose(ToServer, 50_000);
        conversation.say(ToClient, &[&answer(3), &trailers(3)]);
        conversation.say(ToServer, &[&call(next), &frame(0, END_STREAM, next, b"\0\0\0\0\0")]);
        conversation.say(ToClient, &[&answer(next), &trailers(next)]);
        assert_eq!(calls(&conversation), ["a/b OK", "a/b OK", expected], "{next}");
    }
}

/// A request that is no call may have trailers, and they may have been lost.
#[test]
fn of_other_requests_it_is_not_known_what_was_lost() {
    let mut conversation = after_one_call();
    let upload = frame(HEADERS, END_HEADERS, 3, b"\x83\x86\x84\x0f\x10\x0atext/plain");
    conversation.say(ToServer, &[&upload, &long(3)]);
    conversation.lose(ToServer, 50_000);
    conversation.say(ToServer, &[&call(5), &frame(0, END_STREAM, 5, b"\0\0\0\0\0")]);
    conversation.say(ToClient, &[&answer(5), &trailers(5)]);
    assert_eq!(calls(&conversation)[1..], ["_OTHER OK"]);
}
