//! What a client sent; untrusted.

/// What a client sent, told apart into fields but not yet believed.
pub struct Submission {}
