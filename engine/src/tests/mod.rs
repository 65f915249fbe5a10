mod flow;
mod harness;
