mod asks;
mod cluster;
mod durable;
mod flow;
mod harness;
mod keyed;
mod retry;
pub mod tier;
