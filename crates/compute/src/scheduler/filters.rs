//! Which hosts may take a server.

use super::{Facts, Host, Wish, hinted};

type Filter = fn(&Host, &Wish, &Facts) -> bool;

/// Upstream's default filters, and the ones that obey hints.
const FILTERS: &[Filter] = &[
    alive,
    availability_zone,
    requested,
    image_properties,
    capabilities,
    required_traits,
    aggregate_extra_specs,
    anti_affinity,
    affinity,
    same_host,
    different_host,
];

/// Whether all filters let the host pass.
pub(super) fn pass(host: &Host, wish: &Wish, facts: &Facts) -> bool {
    FILTERS.iter().all(|filter| filter(host, wish, facts))
}

/// ComputeFilter.
fn alive(host: &Host, wish: &Wish, _: &Facts) -> bool {
    host.up && !host.node.service.disabled && !wish.ignored_hosts.contains(&host.node.host)
}

fn availability_zone(host: &Host, wish: &Wish, _: &Facts) -> bool {
    wish.availability_zone.as_ref().is_none_or(|zone| *zone == host.zone)
}

fn requested(host: &Host, wish: &Wish, _: &Facts) -> bool {
    wish.requested_host.as_ref().is_none_or(|h| *h == host.node.host)
        && wish
            .requested_node
            .as_ref()
            .is_none_or(|n| *n == host.node.hypervisor_hostname)
}

/// ImagePropertiesFilter: architecture and hypervisor.
fn image_properties(host: &Host, wish: &Wish, _: &Facts) -> bool {
    let property = |names: &[&str]| {
        names
            .iter()
            .find_map(|n| wish.image_properties[n].as_str())
            .map(str::to_lowercase)
    };
    let arch = &host.node.hello.cpu.arch;
    let arch_fits = property(&["hw_architecture", "architecture"])
        .is_none_or(|wanted| arch.is_empty() || canonical(&wanted) == canonical(arch));
    let kind = host.node.hello.hypervisor_type.to_lowercase();
    let kind_fits = property(&["img_hv_type", "hypervisor_type"])
        .is_none_or(|wanted| wanted == kind || matches!(wanted.as_str(), "qemu" | "kvm"));
    arch_fits && kind_fits
}

fn canonical(arch: &str) -> &str {
    match arch {
        "amd64" | "x64" => "x86_64",
        "arm64" => "aarch64",
        "i386" | "i486" | "i586" | "x86" => "i686",
        other => other,
    }
}

/// ComputeCapabilitiesFilter: extra specs `capabilities:KEY`.
fn capabilities(host: &Host, wish: &Wish, _: &Facts) -> bool {
    specs(wish).all(|(key, wanted)| {
        let Some(key) = key.strip_prefix("capabilities:") else {
            return true;
        };
        let hello = &host.node.hello;
        let is = match key {
            "hypervisor_type" => hello.hypervisor_type.clone(),
            "hypervisor_version" => hello.hypervisor_version.to_string(),
            "hypervisor_hostname" => host.node.hypervisor_hostname.clone(),
            "cpu_info:arch" => hello.cpu.arch.clone(),
            "cpu_info:vendor" => hello.cpu.vendor.clone(),
            "cpu_info:model" => hello.cpu.model.clone(),
            "cpu_info:features" => hello.cpu.features.join(" "),
            "vcpus_total" => hello.vcpus.to_string(),
            _ => return false,
        };
        matches_spec(&is, wanted)
    })
}

/// Required and forbidden traits of flavor and image.
fn required_traits(host: &Host, wish: &Wish, _: &Facts) -> bool {
    let image = wish.image_properties.as_object().into_iter().flatten();
    let image = image.filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)));
    specs(wish)
        .chain(image)
        .all(|(key, value)| match (key.strip_prefix("trait:"), value) {
            (Some(name), "required") => host.room.traits.iter().any(|t| t == name),
            (Some(name), "forbidden") => !host.room.traits.iter().any(|t| t == name),
            _ => true,
        })
}

/// AggregateInstanceExtraSpecsFilter: extra specs `aggregate_instance_extra_specs:KEY`.
fn aggregate_extra_specs(host: &Host, wish: &Wish, _: &Facts) -> bool {
    specs(wish).all(|(key, wanted)| {
        let Some(key) = key.strip_prefix("aggregate_instance_extra_specs:") else {
            return true;
        };
        match host.aggregate_metadata.get(key) {
            Some(values) => values.iter().any(|is| matches_spec(is, wanted)),
            None => wanted == "!",
        }
    })
}

fn anti_affinity(host: &Host, _: &Wish, facts: &Facts) -> bool {
    match &facts.group {
        Some((policy, most)) if policy == "anti-affinity" => host.group_members < *most,
        _ => true,
    }
}

fn affinity(host: &Host, _: &Wish, facts: &Facts) -> bool {
    match &facts.group {
        // The first member may go anywhere.
        Some((policy, _)) if policy == "affinity" => host.group_members > 0 || facts.group_is_empty,
        _ => true,
    }
}

fn same_host(host: &Host, wish: &Wish, facts: &Facts) -> bool {
    let wanted = hinted(&wish.hints, "same_host");
    wanted.is_empty() || wanted.iter().any(|id| facts.hosts_of.get(id) == Some(&host.node.host))
}

fn different_host(host: &Host, wish: &Wish, facts: &Facts) -> bool {
    hinted(&wish.hints, "different_host")
        .iter()
        .all(|id| facts.hosts_of.get(id) != Some(&host.node.host))
}

fn specs(wish: &Wish) -> impl Iterator<Item = (&str, &str)> {
    let specs = wish.flavor["extra_specs"].as_object().into_iter().flatten();
    specs.filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
}

/// The small language of extra specs: `= 5` (at least), `== 5`, `>= 5`, `s== text`, `<in> text`, `<or> a <or> b`, or the text itself.
fn matches_spec(is: &str, wanted: &str) -> bool {
    let mut words = wanted.split_whitespace();
    let Some(op) = words.next() else { return is.is_empty() };
    let rest: Vec<&str> = words.collect();
    let number = |order: fn(f64, f64) -> bool| matches!((is.parse::<f64>(), rest.first().map(|w| w.parse::<f64>())), (Ok(a), Some(Ok(b))) if order(a, b));
    let text = rest.first().copied().unwrap_or_default();
    match op {
        "=" | ">=" => number(|a, b| a >= b),
        "==" => number(|a, b| a == b),
        "!=" => number(|a, b| a != b),
        "<=" => number(|a, b| a <= b),
        "s==" => is == text,
        "s!=" => is != text,
        "s<" => is < text,
        "s<=" => is <= text,
        "s>" => is > text,
        "s>=" => is >= text,
        "<in>" => is.contains(text),
        "<all-in>" => rest.iter().all(|w| is.contains(w)),
        "<or>" => wanted.split("<or>").map(str::trim).any(|choice| choice == is),
        _ => is == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::matches_spec;

    #[test]
    fn extra_specs_compare_as_upstreams() {
        for (is, wanted, fits) in [
            ("8", "= 4", true),
            ("8", "== 4", false),
            ("ssd", "ssd", true),
            ("ssd", "<or> hdd <or> ssd", true),
            ("ssd", "<or> hdd", false),
            ("aes sse", "<in> aes", true),
            ("x", "s== x", true),
            ("x", "s!= x", false),
            ("abc", "= 4", false),
        ] {
            assert_eq!(matches_spec(is, wanted), fits, "{is} {wanted}");
        }
    }
}
