mod asks;
mod cluster;
mod durable;
mod flow;
pub mod harness;
mod keyed;
mod rest;
mod retry;
pub mod tier;
