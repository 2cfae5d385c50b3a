//! The analysis of machine code, on the code of libraries as distributions ship them.

use std::collections::BTreeMap;

use super::*;

/// Functions of a library, by name and by address.
struct Fixture {
    named: BTreeMap<&'static str, (u64, Vec<u8>)>,
    all: BTreeMap<u64, Vec<u8>>,
}

impl Fixture {
    fn parse(text: &'static str) -> Self {
        let mut fixture = Self { named: BTreeMap::new(), all: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let (Some(address), Some(name), Some(hex)) = (words.next(), words.next(), words.next()) else {
                panic!("{line}")
            };
            let address = u64::from_str_radix(address, 16).unwrap();
            let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
            fixture.named.insert(name, (address, bytes.clone()));
            fixture.all.insert(address, bytes);
        }
        fixture
    }

    fn code(&self, name: &str) -> Code64<'_> {
        let (address, bytes) = &self.named[name];
        Code64 { address: *address, bytes }
    }

    /// Where a probe goes: `+N` in the function itself, `M+N` in an inner one whose M-th argument has the count, `-`
    /// for the symbol.
    fn place(&self, name: &str) -> String {
        let code = self.code(name);
        if let Some(place) = cheap_entry(code) {
            return format!("+{}", place - code.address);
        }
        let moved = if name.ends_with("_ex2") { Some(4) } else { name.ends_with("_ex").then_some(3) };
        let Some(inner) = inner(code, moved) else { return "-".to_owned() };
        let Some(bytes) = self.all.get(&inner.address) else { return "?".to_owned() };
        match cheap_entry(Code64 { address: inner.address, bytes }) {
            Some(place) => format!("{}+{}", inner.moved, place - inner.address),
            None => "-".to_owned(),
        }
    }

    fn places(&self, names: &[&str]) -> Vec<String> {
        let newest = |name| {
            if name == "SSL_write_ex" && self.named.contains_key("SSL_write_ex2") {
                "SSL_write_ex2"
            } else {
                name
            }
        };
        names.iter().map(|name| self.place(newest(name))).collect()
    }
}

macro_rules! fixture {
    ($name:literal) => {
        Fixture::parse(include_str!(concat!("fixtures/", $name, ".txt")))
    };
}

/// Since 3.3 SSL_write_ex is SSL_write_ex2 without flags.
const OPENSSL: [&str; 7] =
    ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_do_handshake", "SSL_free", "SSL_clear"];
const GNUTLS: [&str; 5] = [
    "gnutls_record_recv",
    "gnutls_record_send2",
    "gnutls_record_uncork",
    "gnutls_handshake",
    "gnutls_deinit",
];

/// A function that jumps back to its beginning for another round would be counted once for each.
#[test]
fn a_place_that_the_function_returns_to_is_refused() {
    // test rdi, rdi; je +2; jmp so far; ret
    let at = |jump: i8| {
        let bytes = [0x48, 0x85, 0xff, 0x74, 0x02, 0xeb, jump as u8, 0xc3];
        cheap_entry(Code64 { address: 0x1000, bytes: &bytes })
    };
    assert_eq!(at(0), Some(0x1003));
    assert_eq!(at(-4), None, "to the je");
    assert_eq!(at(-7), Some(0x1003), "to the entry: that is a call of itself");
}

#[test]
fn what_changes_arguments_or_the_stack_is_not_passed_over() {
    let at = |bytes: &[u8]| cheap_entry(Code64 { address: 0, bytes });
    assert_eq!(at(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55]), Some(4), "endbr64; push rbp");
    assert_eq!(at(&[0x41, 0x57]), Some(0), "push r15");
    assert_eq!(at(&[0x31, 0xc0, 0x74, 0x00]), Some(2), "xor eax, eax; je");
    assert_eq!(at(&[0x48, 0x83, 0xec, 0x18, 0x55]), None, "sub rsp, 24; push rbp");
    assert_eq!(at(&[0x31, 0xf6, 0x55]), None, "xor esi, esi; push rbp");
    assert_eq!(at(&[0x40, 0xb6, 0x01, 0x55]), None, "mov sil, 1; push rbp");
    assert_eq!(at(&[0xff, 0x35, 0, 0, 0, 0, 0x55]), None, "push [rip]; push rbp");
    assert_eq!(at(&[0xff, 0xe0]), None, "jmp rax");
    assert_eq!(at(&[0xc3, 0x55]), None, "ret; push rbp");
    assert_eq!(at(&[0x06, 0x55]), None, "no instruction");
    assert_eq!(at(&[]), None);
}

/// Bytes that are no code, cut anywhere: an answer or none, never a panic.
#[test]
fn rubbish_gives_no_panic() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = [0u8; 256];
    for _ in 0..2_000 {
        for byte in &mut bytes {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            *byte = seed as u8;
        }
        let code = Code64 { address: u64::MAX - 128, bytes: &bytes[..(seed >> 56) as usize] };
        let _ = (cheap_entry(code), inner(code, Some(3)), inner(code, None), random_places(code));
    }
}

/// Debian's OpenSSL makes room on the stack first, and calls a common function that begins with a push.
#[test]
fn openssl_hands_on_to_an_inner_function() {
    for (fixture, entry) in
        [(fixture!("openssl-1.1.1w-debian11"), 0), (fixture!("openssl-3.0.22-debian12"), 0)]
    {
        let inner = format!("3+{entry}");
        assert_eq!(fixture.places(&OPENSSL), [&*inner, &inner, &inner, &inner, "+0", "+3", "+0"]);
    }
    // Its functions begin with endbr64; what it writes by has flags before the pointer.
    let fixture = fixture!("openssl-3.5.7-debian13");
    assert_eq!(fixture.places(&OPENSSL), ["3+4", "4+4", "3+4", "4+4", "+4", "+7", "+11"]);
    let fixture = fixture!("openssl-3.5.8-psycopg2-binary-2.9.13");
    assert_eq!(fixture.places(&OPENSSL), ["3+0", "4+0", "3+0", "4+0", "+3", "+3", "+7"]);
}

/// The addresses as `objdump -d` shows them.
#[test]
fn reads_and_writes_and_peeks_go_to_different_functions() {
    let fixture = fixture!("openssl-3.0.22-debian12");
    let inner = |name: &str, moved| inner(fixture.code(name), moved).unwrap().address;
    assert_eq!([inner("SSL_read", None), inner("SSL_read_ex", Some(3))], [0x352d0, 0x352d0]);
    assert_eq!([inner("SSL_write", None), inner("SSL_write_ex", Some(3))], [0x355e0, 0x355e0]);
    assert_eq!(inner("SSL_peek", None), 0x33100);
    // Asked for another shape than it has, the analysis knows nothing.
    for (name, moved) in [("SSL_read", Some(3)), ("SSL_read_ex", None), ("SSL_free", None)] {
        assert_eq!(super::inner(fixture.code(name), moved), None, "{name}");
    }
}

/// Node's are compiled to begin with a push themselves.
#[test]
fn functions_that_begin_with_a_push_are_probed_there() {
    let fixture = fixture!("openssl-3.0.19-node-20.20.2");
    assert_eq!(fixture.places(&OPENSSL), ["+0", "+0", "+0", "+0", "+0", "+3", "+0"]);
    // gnutls_record_recv makes room on the stack, and its inner function takes its arguments in another order.
    for (fixture, entry) in [(fixture!("gnutls-3.7.9-debian12"), 0), (fixture!("gnutls-3.8.9-debian13"), 4)] {
        let first = format!("+{entry}");
        assert_eq!(fixture.places(&GNUTLS), ["-", &*first, &first, &first, &format!("+{}", entry + 3)]);
    }
}

/// `ssl3_state_st.client_random` behind `ssl_st.s3` in 1.1.1, `ssl_st.s3.client_random` in 3.0, and likewise of
/// `ssl_connection_st` later.
#[test]
fn the_random_is_found() {
    let places = |fixture: &Fixture| random_places(fixture.code("SSL_get_client_random"));
    assert!(places(&fixture!("openssl-1.1.1w-debian11")).contains(&(Some(0xa8), 0xb8)));
    assert_eq!(places(&fixture!("openssl-3.0.22-debian12")), [(None, 0x160)]);
    assert_eq!(places(&fixture!("openssl-3.0.19-node-20.20.2")), [(None, 0x160)]);
    assert_eq!(places(&fixture!("openssl-3.5.7-debian13")), [(None, 0x188)]);
    assert_eq!(places(&fixture!("openssl-3.5.8-psycopg2-binary-2.9.13")), [(None, 0x188)]);
}
