//! The broker as a client sees it: real sockets and frames, a bucket and a disk in memory below.

mod access;
mod admin;
mod client;
mod connections;
mod fetching;
mod nodes;
mod records;
mod topics;
