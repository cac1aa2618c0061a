//! `hypervisor`
