//! Which topics a consumer reads.

use super::super::subscription::topics;
use super::*;

#[test]
fn all_versions_begin_alike() {
    for version in [0_i16, 1, 3, 9] {
        let mut bytes = subscription(&["a", "ö"]).to_vec();
        bytes[..2].copy_from_slice(&version.to_be_bytes());
        assert_eq!(topics(&bytes), Some(vec!["a", "ö"]));
    }
    assert_eq!(topics(&subscription(&[])), Some(Vec::new()));
}

/// However it is cut or changed: no panic, and nothing that takes more memory than it has bytes.
#[test]
fn what_is_no_subscription_says_nothing() {
    let bytes = subscription(&["a", "ö"]);
    // an empty list of what is owned is behind what is read
    for cut in 0..bytes.len() - 4 {
        assert_eq!(topics(&bytes[..cut]), None, "cut to {cut}");
    }
    for place in 0..bytes.len() {
        for value in [0x00, 0x7f, 0xff] {
            let mut changed = bytes.to_vec();
            changed[place] = value;
            assert!(topics(&changed).is_none_or(|topics| topics.len() <= bytes.len()));
        }
    }
    assert_eq!(topics(&[0, 1, 0x7f, 0xff, 0xff, 0xff]), None);
    assert_eq!(topics(&[0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
}
