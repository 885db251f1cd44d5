//! Frames with and without text that cannot be read: what is mended, and what passes as it came.

use super::*;

const BAD: &[u8] = b"\xff\xfe";

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, 1];
    put_long(&mut frame, payload);
    frame.push(0xce);
    frame
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("short")], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    put_long(&mut text, bytes);
    text
}

/// A content header with headers, delivery mode, message id, timestamp and type.
fn content(headers: &[u8], id: &[u8], kind: &[u8], flags: u16) -> Vec<u8> {
    let before = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let has = |bit: u16, value: Vec<u8>| if flags & (1 << bit) == 0 { Vec::new() } else { value };
    let values = [
        has(13, long(headers)),
        vec![2],
        has(7, short(id)),
        7u64.to_be_bytes().to_vec(),
        has(5, short(kind)),
    ];
    frame(HEADER, &[&before[..], &flags.to_be_bytes(), &values.concat()].concat())
}

const ALL: u16 = 1 << 13 | 1 << 12 | 1 << 7 | 1 << 6 | 1 << 5;

fn whole(frames: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Frames::default().take(frames, &mut out);
    out
}

#[test]
fn what_can_be_read_goes_on_unchanged_however_it_is_cut() {
    let table = [short(b"owner"), b"S".to_vec(), long(b"ann"), short(b"n"), b"I\0\0\0\x01".to_vec()].concat();
    let deliver =
        [&[0, 60, 0, 60][..], &short(b"tag"), &[0; 9], &short(b"exchange"), &short("schlüssel".as_bytes())];
    let sent = [
        frame(METHOD, &deliver.concat()),
        content(&table, b"id", b"job.submit.v1", ALL),
        frame(3, b"a body \xff of any bytes"),
        frame(8, b""),
        frame(METHOD, &[0, 10, 0, 60, 1, 0xff]),
    ]
    .concat();
    assert_eq!(whole(&sent), sent);
    for size in [1, 2, 7, 8, 30] {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        sent.chunks(size).for_each(|piece| frames.take(piece, &mut out));
        assert_eq!(out, sent, "in pieces of {size}");
    }
}

#[test]
fn a_property_that_is_no_text_is_left_out() {
    assert_eq!(whole(&content(b"", BAD, b"kind", ALL)), content(b"", b"", b"kind", ALL & !(1 << 7)));
    assert_eq!(whole(&content(b"", b"id", BAD, ALL)), content(b"", b"id", b"", ALL & !(1 << 5)));
}

#[test]
fn of_a_table_only_plain_values_with_names_stay() {
    let value = |name: &[u8], kind: u8, value: &[u8]| [short(name), vec![kind], value.to_vec()].concat();
    let good = [value(b"a", b'S', &long(BAD)), value(b"b", b'V', b""), value(b"c", b'D', &[0; 5])].concat();
    let nested = [value(b"t", b'F', &long(b"whatever")), value(b"l", b'A', &long(&[0xff; 900]))].concat();
    let mixed = [&value(BAD, b't', &[1])[..], &nested, &good].concat();
    assert_eq!(whole(&content(&mixed, b"id", b"kind", ALL)), content(&good, b"id", b"kind", ALL));
    // After what nobody can read nothing can be read.
    let broken = [&good[..], &value(b"x", b'?', b""), &good].concat();
    assert_eq!(whole(&content(&broken, b"id", b"kind", ALL)), content(&good, b"id", b"kind", ALL));
}

#[test]
fn a_routing_key_that_is_no_text_becomes_one() {
    let deliver =
        |key: &[u8]| [&[0, 60, 0, 60][..], &short(b"tag"), &[0; 9], &short(b"e"), &short(key)].concat();
    let out = whole(&frame(METHOD, &deliver(b"a\xffb")));
    assert_eq!(out, frame(METHOD, &deliver("a\u{fffd}b".as_bytes())));
    let out = whole(&frame(METHOD, &deliver(&[0xff; 255])));
    assert_eq!(out, frame(METHOD, &deliver("\u{fffd}".repeat(85).as_bytes())), "no longer than it may be");
}

proptest::proptest! {
    #[test]
    fn any_bytes_pass_without_a_panic_and_none_are_held_back_for_ever(bytes: Vec<u8>, cut in 0usize..64) {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        frames.take(first, &mut out);
        frames.take(second, &mut out);
        assert_eq!(out, whole(&bytes));
    }
}
