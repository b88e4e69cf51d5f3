//! Rules about the tree.
#[test]
fn placeholder() {}
