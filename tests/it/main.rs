//! The promises, held from outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where and stop")]

#[test]
fn the_suite_runs() {
    assert_eq!(Some(1).unwrap(), 1);
}
