//! Which of the hosts that may take a server should: the one with the most free, as upstream's default weighers see it.

use super::{Facts, Host, Wish};

/// Sorts the best host first. Each weigher's values are brought to 0..1 over all hosts and added up.
pub(super) fn order(hosts: &mut Vec<Host>, _wish: &Wish, facts: &Facts) {
    if hosts.len() < 2 {
        return;
    }
    let mut weights = vec![0.0; hosts.len()];
    for class in ["MEMORY_MB", "VCPU", "DISK_GB"] {
        add(&mut weights, hosts.iter().map(|h| free(h, class)).collect());
    }
    match facts.group.as_ref().map(|(policy, _)| policy.as_str()) {
        Some("soft-affinity") => add(&mut weights, hosts.iter().map(|h| h.group_members as f64).collect()),
        Some("soft-anti-affinity") => add(&mut weights, hosts.iter().map(|h| -(h.group_members as f64)).collect()),
        _ => {}
    }
    let mut ranked: Vec<(f64, Host)> = weights.into_iter().zip(std::mem::take(hosts)).collect();
    ranked.sort_by(|(a, x), (b, y)| {
        b.total_cmp(a)
            .then(x.servers.cmp(&y.servers))
            .then_with(|| x.node.host.cmp(&y.node.host))
    });
    hosts.extend(ranked.into_iter().map(|(_, host)| host));
}

fn free(host: &Host, class: &str) -> f64 {
    host.room.classes.get(class).map_or(0.0, |c| {
        (c.total.saturating_sub(c.reserved)) as f64 * c.allocation_ratio - c.used as f64
    })
}

fn add(weights: &mut [f64], values: Vec<f64>) {
    let (low, high) = values
        .iter()
        .fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    if high > low {
        for (weight, value) in weights.iter_mut().zip(values) {
            *weight += (value - low) / (high - low);
        }
    }
}
