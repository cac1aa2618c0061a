//! The network compiler: what a node must know of the virtual networks ([`topology`]) becomes OpenFlow flows, and the
//! packets that flows cannot answer are answered.

pub mod topology;
