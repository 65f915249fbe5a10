mod asks;
mod flow;
mod harness;
mod keyed;
mod retry;
