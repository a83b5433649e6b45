//! From a submission to a lead: all field errors at once.
