//! The promises, held from outside: one binary, a module a subject.
