//! stub

mod hub;
