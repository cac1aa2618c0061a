//! `virtual-network`
