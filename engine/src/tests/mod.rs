mod flow;
mod harness;
mod keyed;
