//! `ferrostack db`: the schema, and the proof that tables, processes and flows agree.

use crate::Failure;
use crate::cli::Common;
use crate::controller::MIGRATIONS;
use crate::layout::Layout;
use database::Database;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

/// Brings the schema up to this program.
pub fn migrate(common: &Common) -> Result<(), Failure> {
    let config = Layout::find(common)?.config;
    Database::open(&config.database_url())?.migrate(MIGRATIONS)?;
    println!("The schema is this version's.");
    Ok(())
}

/// Prints what does not agree, a sentence each; the exit code says whether there is anything.
pub fn run(common: &Common, as_json: bool) -> Result<ExitCode, Failure> {
    let config = Layout::find(common)?.config;
    let db = Database::open(&config.database_url())?;
    let mut findings = db.check()?;
    findings.extend(db.read(consistency)?);
    findings.extend(image_files(&db, Path::new(&config.image_folder()))?);
    if !config.general.simulate {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        findings.extend(runtime.block_on(crate::node::check(&config, &db))?);
    }
    if as_json {
        println!("{}", serde_json::to_string(&findings)?);
    } else if findings.is_empty() {
        println!("Tables, processes and flows agree.");
    } else {
        findings.iter().for_each(|f| println!("{f}"));
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What must hold between the tables of different services: each query finds the ids of what contradicts its sentence.
const RULES: &[(&str, &str)] = &[
    (
        "the allocations of server {} outlived it",
        "SELECT c.uuid FROM consumers c WHERE c.consumer_type = 'INSTANCE'
         AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = c.uuid AND s.deleted_at IS NULL)",
    ),
    (
        "allocations of {} have no consumer",
        "SELECT DISTINCT a.consumer_uuid FROM allocations a WHERE NOT EXISTS (SELECT 1 FROM consumers c WHERE c.uuid = a.consumer_uuid)",
    ),
    (
        "allocations of {} are on a provider without such an inventory",
        "SELECT DISTINCT a.consumer_uuid FROM allocations a WHERE NOT EXISTS
         (SELECT 1 FROM inventories i WHERE i.provider_uuid = a.provider_uuid AND i.resource_class = a.resource_class)",
    ),
    (
        "what an inventory of provider {} counts as used is not the sum of its allocations",
        "SELECT DISTINCT i.provider_uuid FROM inventories i WHERE i.used <> COALESCE((SELECT SUM(a.used) FROM allocations a
         WHERE a.provider_uuid = i.provider_uuid AND a.resource_class = i.resource_class), 0)",
    ),
    // A flavor may override what it takes, down to nothing.
    (
        "server {} has a host, but no allocation",
        "SELECT s.id FROM servers s WHERE s.deleted_at IS NULL AND s.host IS NOT NULL AND s.flavor NOT LIKE '%\"resources:%'
         AND NOT EXISTS (SELECT 1 FROM allocations a WHERE a.consumer_uuid = s.id)",
    ),
    // While a server is being resized it holds both flavors' claims.
    (
        "server {} has claimed another amount of memory or CPUs than its flavor says",
        "SELECT s.id FROM servers s WHERE s.deleted_at IS NULL AND s.task_state IS NULL AND s.vm_state <> 'resized'
         AND s.flavor NOT LIKE '%\"resources:%' AND EXISTS (SELECT 1 FROM allocations a WHERE a.consumer_uuid = s.id
         AND (a.resource_class = 'MEMORY_MB' AND a.used <> s.memory_mb OR a.resource_class = 'VCPU' AND a.used <> s.vcpus))",
    ),
    (
        "server {} is on a host that is no compute node",
        "SELECT s.id FROM servers s WHERE s.deleted_at IS NULL AND s.host IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM compute_nodes n WHERE n.host = s.host)",
    ),
    (
        "compute node {} has no resource provider",
        "SELECT n.id FROM compute_nodes n WHERE NOT EXISTS (SELECT 1 FROM resource_providers p WHERE p.uuid = n.id)",
    ),
    (
        "server {} is in error and has no fault that says why",
        "SELECT id FROM servers WHERE deleted_at IS NULL AND vm_state = 'error' AND fault_message IS NULL",
    ),
    (
        "port {} is bound for a server that does not exist",
        "SELECT p.id FROM ports p WHERE p.device_owner LIKE 'compute:%' AND p.host_id <> ''
         AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = p.device_id AND s.deleted_at IS NULL)",
    ),
    (
        "port {} is a NIC of a server that does not exist",
        "SELECT n.port_id FROM server_ports n WHERE NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = n.server_id AND s.deleted_at IS NULL)",
    ),
    (
        "port {} is a NIC of a server, and does not exist or is another device's",
        "SELECT n.port_id FROM server_ports n WHERE NOT EXISTS (SELECT 1 FROM ports p WHERE p.id = n.port_id AND p.device_id = n.server_id)",
    ),
    (
        "an address is allocated to port {}, which does not show it",
        "SELECT DISTINCT p.id FROM ip_allocations a JOIN ports p ON p.id = a.port_id
         WHERE p.fixed_ips NOT LIKE '%\"' || a.ip_address || '\"%' OR a.network_id <> p.network_id",
    ),
    (
        "port {} shows another number of addresses than are allocated to it",
        "SELECT p.id FROM ports p WHERE (LENGTH(p.fixed_ips) - LENGTH(REPLACE(p.fixed_ips, '\"ip_address\"', ''))) / 12
         <> (SELECT COUNT(*) FROM ip_allocations a WHERE a.port_id = p.id)",
    ),
    (
        "port {} shows other security groups than it is a member of",
        "SELECT p.id FROM ports p WHERE (LENGTH(p.security_groups) - LENGTH(REPLACE(p.security_groups, '\"', ''))) / 2
         <> (SELECT COUNT(*) FROM port_security_groups g WHERE g.port_id = p.id AND p.security_groups LIKE '%' || g.security_group_id || '%')",
    ),
    (
        "floating IP {} has an address that its own port does not have",
        "SELECT f.id FROM floatingips f WHERE NOT EXISTS
         (SELECT 1 FROM ip_allocations a WHERE a.port_id = f.floating_port_id AND a.ip_address = f.floating_ip_address)",
    ),
    (
        "floating IP {} leads to an address that its port does not have",
        "SELECT f.id FROM floatingips f WHERE f.port_id IS NOT NULL AND NOT EXISTS
         (SELECT 1 FROM ip_allocations a WHERE a.port_id = f.port_id AND a.ip_address = f.fixed_ip_address)",
    ),
    (
        "port {} belongs to a floating IP that does not exist",
        "SELECT p.id FROM ports p WHERE p.device_owner = 'network:floatingip'
         AND NOT EXISTS (SELECT 1 FROM floatingips f WHERE f.floating_port_id = p.id)",
    ),
    (
        "port {} is a router's for itself, but not for the router",
        "SELECT p.id FROM ports p WHERE p.device_owner IN ('network:router_interface', 'network:router_gateway')
         AND NOT EXISTS (SELECT 1 FROM router_ports r WHERE r.port_id = p.id AND r.router_id = p.device_id)",
    ),
    (
        "router {} has a gateway port that is not its own",
        "SELECT r.id FROM routers r WHERE r.gw_port_id IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM router_ports p WHERE p.port_id = r.gw_port_id AND p.router_id = r.id)",
    ),
    (
        "network {} has no segment",
        "SELECT n.id FROM networks n WHERE NOT EXISTS (SELECT 1 FROM network_segments s WHERE s.network_id = n.id)",
    ),
    (
        "the segment of network {} counts as free",
        "SELECT DISTINCT s.network_id FROM network_segments s JOIN free_segments f ON f.network_type = s.network_type
         AND f.physical_network = COALESCE(s.physical_network, '') AND s.segmentation_id BETWEEN f.first_id AND f.last_id",
    ),
];

fn consistency(tx: &mut database::Tx<'_>) -> Result<Vec<String>, database::Error> {
    let mut findings = Vec::new();
    for (sentence, query) in RULES {
        for key in tx.column::<String>(query, &[])? {
            findings.push(sentence.replace("{}", &key));
        }
    }
    Ok(findings)
}

/// What images say they have, against the files that there are.
fn image_files(db: &Database, folder: &Path) -> Result<Vec<String>, Failure> {
    let rows = db.read(|tx| {
        let rows = tx.query("SELECT id, status, size FROM images ORDER BY id", &[])?;
        rows.iter().map(|row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).collect::<Result<BTreeMap<String, (String, Option<i64>)>, database::Error>>()
    })?;
    let mut findings = Vec::new();
    let mut with_data = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.split_once('.') {
            None if rows.contains_key(&name) => _ = with_data.insert(name, entry.metadata()?.len()),
            // What is being received has no row to compare with yet, or still.
            Some((_, "part")) => {}
            Some((id, "staged")) if rows.contains_key(id) => {}
            _ => findings.push(format!("the file {} belongs to no image", entry.path().display())),
        }
    }
    for (id, (status, size)) in &rows {
        let there = with_data.get(id);
        match status.as_str() {
            "active" | "deactivated" if there.is_none() => findings.push(format!("image {id} is {status} and has no data")),
            "active" | "deactivated" if there.and_then(|bytes| i64::try_from(*bytes).ok()) != *size => {
                findings.push(format!("image {id} says another size than its data has"));
            }
            "queued" if there.is_some() => findings.push(format!("image {id} is queued and has data")),
            _ => {}
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn planted(db: &Database, statements: &[&str]) -> Vec<String> {
        db.write(|tx| {
            for statement in statements {
                tx.execute(statement, &[])?;
            }
            Ok::<_, database::Error>(())
        })
        .unwrap();
        db.read(consistency).unwrap()
    }

    #[test]
    fn an_empty_cloud_agrees_with_itself() {
        database::testing::on_both(MIGRATIONS, |db| {
            assert_eq!(db.read(consistency).unwrap(), Vec::<String>::new());
        });
    }

    #[test]
    fn claims_that_outlived_their_server_or_were_miscounted_are_found() {
        database::testing::on_both(MIGRATIONS, |db| {
            let found = planted(
                &db,
                &[
                    "INSERT INTO consumers (uuid, project_id, user_id, consumer_type, generation, created_at) VALUES ('gone', 'p', 'u', 'INSTANCE', 1, 1)",
                    "INSERT INTO inventories (provider_uuid, resource_class, total, reserved, min_unit, max_unit, step_size, allocation_ratio, used, created_at)
                     VALUES ('rp', 'VCPU', 8, 0, 1, 8, 1, 1.0, 3, 1)",
                    "INSERT INTO allocations (consumer_uuid, provider_uuid, resource_class, used, created_at) VALUES ('gone', 'rp', 'VCPU', 2, 1)",
                    "INSERT INTO allocations (consumer_uuid, provider_uuid, resource_class, used, created_at) VALUES ('nobody', 'rp', 'MEMORY_MB', 2, 1)",
                ],
            );
            assert_eq!(
                found,
                [
                    "the allocations of server gone outlived it",
                    "allocations of nobody have no consumer",
                    "allocations of nobody are on a provider without such an inventory",
                    "what an inventory of provider rp counts as used is not the sum of its allocations",
                ]
            );
        });
    }

    #[test]
    fn ports_of_no_server_and_addresses_of_no_port_are_found() {
        database::testing::on_both(MIGRATIONS, |db| {
            let port = "INSERT INTO ports (id, project_id, network_id, name, mac_address, admin_state_up, status, device_id, device_owner,
                        port_security_enabled, fixed_ips, security_groups, host_id, created_at, updated_at, revision_number) VALUES";
            let found = planted(
                &db,
                &[
                    "INSERT INTO networks (id, project_id, name, admin_state_up, status, mtu, port_security_enabled, created_at, updated_at, revision_number)
                     VALUES ('net', 'p', 'n', 1, 'ACTIVE', 1450, 1, 1, 1, 1), ('bare', 'p', 'n', 1, 'ACTIVE', 1450, 1, 1, 1, 1)",
                    "INSERT INTO network_segments (id, network_id, network_type, segmentation_id, created_at, updated_at, revision_number)
                     VALUES ('seg', 'net', 'vxlan', 7, 1, 1, 1)",
                    "INSERT INTO free_segments (network_type, physical_network, first_id, last_id) VALUES ('vxlan', '', 5, 9)",
                    "INSERT INTO subnets (id, project_id, network_id, name, ip_version, cidr, enable_dhcp, allocation_pools, created_at, updated_at, revision_number)
                     VALUES ('sub', 'p', 'net', '', 4, '10.0.0.0/24', 1, '[]', 1, 1, 1)",
                    &format!("{port} ('bound', 'p', 'net', '', 'fa:16:3e:00:00:01', 1, 'ACTIVE', 'gone', 'compute:nova', 1, '[]', '[]', 'host', 1, 1, 1)"),
                    &format!(
                        "{port} ('shows', 'p', 'net', '', 'fa:16:3e:00:00:02', 1, 'DOWN', '', '', 1,
                         '[{{\"subnet_id\":\"sub\",\"ip_address\":\"10.0.0.5\"}}]', '[\"sg\"]', '', 1, 1, 1)"
                    ),
                    &format!("{port} ('holds', 'p', 'net', '', 'fa:16:3e:00:00:03', 1, 'DOWN', '', 'network:floatingip', 1, '[]', '[]', '', 1, 1, 1)"),
                    &format!(
                        "{port} ('fine', 'p', 'net', '', 'fa:16:3e:00:00:04', 1, 'DOWN', '', '', 1,
                         '[{{\"subnet_id\":\"sub\",\"ip_address\":\"10.0.0.7\"}}]', '[]', '', 1, 1, 1)"
                    ),
                    "INSERT INTO ip_allocations (subnet_id, ip_address, network_id, port_id) VALUES ('sub', '10.0.0.6', 'net', 'holds')",
                    "INSERT INTO ip_allocations (subnet_id, ip_address, network_id, port_id) VALUES ('sub', '10.0.0.7', 'net', 'fine')",
                    "INSERT INTO floatingips (id, project_id, floating_ip_address, floating_network_id, floating_port_id, port_id, fixed_ip_address, status,
                     created_at, updated_at, revision_number) VALUES ('fip', 'p', '10.0.0.9', 'net', 'bound', 'fine', '10.0.0.8', 'ACTIVE', 1, 1, 1)",
                ],
            );
            let wanted = [
                "port bound is bound for a server that does not exist",
                "an address is allocated to port holds, which does not show it",
                "port holds shows another number of addresses than are allocated to it",
                "port shows shows another number of addresses than are allocated to it",
                "port shows shows other security groups than it is a member of",
                "floating IP fip has an address that its own port does not have",
                "floating IP fip leads to an address that its port does not have",
                "port holds belongs to a floating IP that does not exist",
                "network bare has no segment",
                "the segment of network net counts as free",
            ];
            let sorted = |list: Vec<String>| BTreeSet::from_iter(list);
            assert_eq!(sorted(found), sorted(wanted.map(str::to_owned).into()));
        });
    }

    #[test]
    fn images_without_data_and_data_without_images_are_found() {
        database::testing::on_both(MIGRATIONS, |db| {
            let folder = tempfile::tempdir().unwrap();
            let image = "INSERT INTO images (id, status, visibility, size, min_disk, min_ram, protected, os_hidden, created_at, updated_at) VALUES";
            planted(
                &db,
                &[
                    &format!("{image} ('empty', 'active', 'public', 3, 0, 0, 0, 0, 1, 1), ('short', 'active', 'public', 3, 0, 0, 0, 0, 1, 1)"),
                    &format!("{image} ('fine', 'active', 'public', 3, 0, 0, 0, 0, 1, 1), ('new', 'queued', 'public', NULL, 0, 0, 0, 0, 1, 1)"),
                ],
            );
            for (name, bytes) in [("short", "ab"), ("fine", "abc"), ("stray", "abc"), ("coming.part", "a")] {
                std::fs::write(folder.path().join(name), bytes).unwrap();
            }
            let found = image_files(&db, folder.path()).unwrap();
            let stray = folder.path().join("stray");
            assert_eq!(
                found,
                [
                    format!("the file {} belongs to no image", stray.display()),
                    "image empty is active and has no data".into(),
                    "image short says another size than its data has".into(),
                ]
            );
        });
    }
}
