//! A webhook receiver.
