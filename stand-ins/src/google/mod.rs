//! Google: the token endpoint and the Sheets v4 methods that are used.
