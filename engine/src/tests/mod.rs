mod asks;
mod cluster;
mod durable;
mod flow;
pub mod harness;
mod keyed;
mod retry;
pub mod tier;
