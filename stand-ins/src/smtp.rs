//! An SMTP server.
