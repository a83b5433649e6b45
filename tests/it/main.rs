//! The promises, held from outside: one binary, a module a subject.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where and stop")]

mod architecture;
mod browser;
mod canary;
mod config;
mod conformance;
mod crash;
mod defaults;
mod delivery;
mod demo;
mod destination_email;
mod destination_hubspot;
mod destination_mail_api;
mod destination_webhook;
mod fallback;
mod google_sheets;
mod log;
mod machine;
mod moving;
mod operators;
mod pipedrive;
mod postgres;
mod promises;
mod releases;
mod replicas;
mod service;
mod shutdown;
mod store;
mod story;
mod submit;
mod support;
mod validation;
