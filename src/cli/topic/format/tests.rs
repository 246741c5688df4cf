use super::*;

fn format(text: &str) -> Format {
    Format::parse(text, None).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn all(format: &Format, mut input: &[u8]) -> Result<Vec<Given>, String> {
    std::iter::from_fn(|| format.read(&mut input).transpose()).collect()
}

fn keyed(key: &str, value: &str) -> Given {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Given { key: Some(bytes(key)), value: Some(bytes(value)), ..Given::default() }
}

#[test]
fn a_line_is_a_value() {
    let values: Vec<_> = all(&format("%v"), b"one\n\nthree\nlast").unwrap();
    let values: Vec<_> = values.into_iter().map(|given| given.value.unwrap()).collect();
    assert_eq!(values, ["one", "", "three", "last"]);
    assert_eq!(all(&format("%v"), b"").unwrap(), []);
}

#[test]
fn records_are_taken_apart_at_the_texts() {
    let check = |text: &str, input: &str, expect: Given| {
        assert_eq!(all(&format(text), input.as_bytes()), Ok(vec![expect]), "{text}");
    };
    check("%k:%v", "a:b:c\n", keyed("a", "b:c"));
    check("<%k>: %v\\n--\\n", "<a>: b\nc\n--\n", keyed("a", "b\nc"));
    check("%k\\t%v;", "a\tb;", keyed("a", "b"));
    check("%v\\x01%k%%", "b\u{1}a%", keyed("a", "b"));
    check("%k %v", " b", Given { key: None, ..keyed("", "b") });
    check(
        "%t/%p@%o %T %k=%v",
        "topic/3@99 1700 a=b\n",
        Given { partition: Some(3), timestamp: Some(1700), ..keyed("a", "b") },
    );
}

#[test]
fn no_record_takes_all_the_memory() {
    let read = |length: usize| {
        let mut input = std::io::BufReader::new(std::io::repeat(b'x').take(length as u64));
        format("%v;").read(&mut input)
    };
    assert!(read(RECORD_BYTES_MAX).is_ok(), "it is allowed, and its end is the input's");
    let expect =
        "no \";\" ends it within 104857600 bytes, more than brokers take; does --format fit?".to_owned();
    assert_eq!(read(RECORD_BYTES_MAX + 1).err(), Some(expect.clone()));
    assert_eq!(read(usize::MAX).err(), Some(expect));
}

#[test]
fn a_record_is_whole_where_its_end_has_come() {
    for (text, input, expect) in [
        ("%v", "one\ntw", true),
        ("%v", "on", false),
        ("%v;\\n", "a;b", false),
        ("%v;\\n", "a\nb;\n", true),
        ("%k\\n%v--", "key\nvalue", false),
    ] {
        assert_eq!(format(text).has_whole(input.as_bytes()), expect, "{text} {input}");
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let check = |text: &str, input: &str, expect: &str| {
        assert_eq!(all(&format(text), input.as_bytes()), Err(expect.to_owned()), "{text}");
    };
    check("%k\\t%v", "no tab\n", "\"\\t\" is missing behind the key");
    check("[%v]", "a]", "\"[\" is missing at its beginning");
    check("%T %v", "now a\n", "\"now\" is no timestamp");
    check("%p %v", "-1 a\n", "\"-1\" is no partition");
    check("%h %v", "a:1 b\n", "\"a:1\" is no header, which is name=value");
    let parse = |text: &str| Format::parse(text, None).err().unwrap_or_default();
    assert_eq!(parse("%x"), "--format: %x is no token; there are %k %v %h %T %p %o %t and %%");
    assert_eq!(parse("%v%"), "--format ends in %; the tokens are %k %v %h %T %p %o %t and %%");
    assert_eq!(parse("%v\\q"), "--format: \\q is no escape; there are \\n \\t \\r \\0 \\\\ and \\xHH");
    assert_eq!(parse("%v\\xZZ"), "--format: \\xZZ: \\x takes two hexadecimal digits");
    assert_eq!(parse("none"), "--format \"none\" has none of the tokens %k %v %h %T %p %o %t");
    assert!(format("%k%v").check_input().is_err());
    assert!(format("%k %v").check_input().is_ok());
}

#[test]
fn what_is_written_is_read_back() {
    let headers: [Header<'_>; 3] = [(b"a,=", Some(b"x\\,y=z")), (b"a,=", Some(b"")), (b"none", None)];
    let told = Told {
        topic: "orders",
        partition: 2,
        offset: 17,
        timestamp: 1_700_000,
        key: None,
        value: Some(b"v w"),
        headers: &headers,
    };
    let format = Format::parse("%t %p %o %T %k %h|%v", Some("NULL")).unwrap();
    let mut text = Vec::new();
    format.write(&told, &mut text);
    let expect = "orders 2 17 1700000 NULL a\\,\\==x\\\\\\,y\\=z,a\\,\\==,none=NULL|v w\n";
    assert_eq!(String::from_utf8(text.clone()).unwrap(), expect);
    let own = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let given = Given {
        key: None,
        value: Some(own(b"v w")),
        headers: headers.iter().map(|(name, value)| (own(name), value.map(own))).collect(),
        timestamp: Some(1_700_000),
        partition: Some(2),
    };
    assert_eq!(all(&format, &text), Ok(vec![given]));
    // without --null what is not there is empty
    let mut text = Vec::new();
    super::Format::parse("%k|%v", None).unwrap().write(&Told { value: None, ..told }, &mut text);
    assert_eq!(text, b"|\n");
}
