//! What a person needs to use the cloud: `keystonerc_*` to be sourced, and an entry in `clouds.yaml`.

use crate::account::Owner;
use crate::{Error, write_file};
use serde_yaml_ng::{Mapping, Value};
use std::path::{Path, PathBuf};

/// Who signs in, and where.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Identity's URL, with `/v3`.
    pub auth_url: String,
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Project name.
    pub project: String,
    /// Name of the domain of both.
    pub domain: String,
    /// Region name.
    pub region: String,
    /// File with the authority of the endpoint's certificate, if it needs one.
    pub ca_file: Option<PathBuf>,
}

/// A word of shell that means exactly this text.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The file to be sourced: what it sets and the prompt `[\u@\h \W(keystone_NAME)]\$ `.
pub fn rc_file(name: &str, credentials: &Credentials) -> String {
    let Credentials {
        auth_url,
        user,
        password,
        project,
        domain,
        region,
        ca_file,
    } = credentials;
    let mut text = String::from("unset OS_SERVICE_TOKEN OS_CLOUD OS_TOKEN OS_SYSTEM_SCOPE\n");
    let mut export = |key: &str, value: &str| text.push_str(&format!("export {key}={}\n", shell_quoted(value)));
    export("OS_USERNAME", user);
    export("OS_PASSWORD", password);
    export("OS_REGION_NAME", region);
    export("OS_AUTH_URL", auth_url);
    export("OS_PROJECT_NAME", project);
    export("OS_USER_DOMAIN_NAME", domain);
    export("OS_PROJECT_DOMAIN_NAME", domain);
    export("OS_IDENTITY_API_VERSION", "3");
    if let Some(path) = ca_file {
        export("OS_CACERT", &path.to_string_lossy());
    }
    export("PS1", &format!(r"[\u@\h \W(keystone_{name})]\$ "));
    text
}

/// Writes `keystonerc_NAME` into a folder, for its owner alone. Returns its path.
pub fn write_rc_file(
    folder: &Path,
    name: &str,
    credentials: &Credentials,
    owner: Option<Owner>,
) -> Result<PathBuf, Error> {
    let path = folder.join(format!("keystonerc_{name}"));
    write_file(&path, rc_file(name, credentials).as_bytes(), 0o600, owner)?;
    Ok(path)
}

/// The entry's content in `clouds.yaml`.
fn cloud(credentials: &Credentials) -> Value {
    let text = |text: &str| Value::String(text.to_owned());
    let mut auth = Mapping::new();
    for (key, value) in [
        ("auth_url", &credentials.auth_url),
        ("username", &credentials.user),
        ("password", &credentials.password),
        ("project_name", &credentials.project),
        ("user_domain_name", &credentials.domain),
        ("project_domain_name", &credentials.domain),
    ] {
        auth.insert(text(key), text(value));
    }
    let mut cloud = Mapping::new();
    cloud.insert(text("auth"), Value::Mapping(auth));
    cloud.insert(text("region_name"), text(&credentials.region));
    cloud.insert(text("identity_api_version"), Value::Number(3.into()));
    if let Some(path) = &credentials.ca_file {
        cloud.insert(text("cacert"), text(&path.to_string_lossy()));
    }
    Value::Mapping(cloud)
}

/// Puts entries into `clouds.yaml`, replacing those of the same names; everything else in the file stays as it is, comments
/// included. A file that cannot be understood is left alone.
pub fn merge_clouds(path: &Path, entries: &[(&str, &Credentials)], owner: Option<Owner>) -> Result<(), Error> {
    let entries: Vec<(&str, Option<Value>)> = entries.iter().map(|(name, c)| (*name, Some(cloud(c)))).collect();
    edit_clouds(path, &entries, owner)
}

/// Takes entries out of `clouds.yaml`; a file that holds nothing else then goes.
pub fn remove_clouds(path: &Path, names: &[&str]) -> Result<(), Error> {
    let entries: Vec<(&str, Option<Value>)> = names.iter().map(|name| (*name, None)).collect();
    edit_clouds(path, &entries, None)
}

fn edit_clouds(path: &Path, entries: &[(&str, Option<Value>)], owner: Option<Owner>) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let old = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Error::io("reading", path)(e)),
    };
    let unreadable = |reason: String| Error::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let text = old.clone().unwrap_or_default();
    let parsed: Value = serde_yaml_ng::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
    let mut wanted = match parsed {
        Value::Null => Mapping::new(),
        Value::Mapping(mapping) => mapping,
        _ => return Err(unreadable("it is no mapping".to_owned())),
    };
    let clouds = wanted
        .entry("clouds".into())
        .or_insert_with(|| Value::Mapping(Mapping::new()));
    if clouds.is_null() {
        *clouds = Value::Mapping(Mapping::new());
    }
    let clouds = clouds
        .as_mapping_mut()
        .ok_or_else(|| unreadable("its 'clouds' is no mapping".to_owned()))?;
    for (name, value) in entries {
        match value {
            Some(value) => clouds.insert((*name).into(), value.clone()),
            None => clouds.shift_remove(Value::from(*name)),
        };
    }
    if clouds.is_empty() && wanted.len() == 1 && entries.iter().all(|(_, value)| value.is_none()) {
        return match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path)(e)),
            _ => Ok(()),
        };
    }
    let wanted = Value::Mapping(wanted);
    let mut edited = text;
    for (name, value) in entries {
        edited = edit_text(&edited, name, value.as_ref());
    }
    // The edit keeps comments but knows only how such files are usually written; where it went wrong, the data count.
    let same = serde_yaml_ng::from_str::<Value>(&edited).is_ok_and(|got| equal(&got, &wanted));
    if !same {
        edited = serde_yaml_ng::to_string(&wanted).map_err(|e| unreadable(e.to_string()))?;
    }
    if old.as_deref() == Some(edited.as_str()) {
        return Ok(());
    }
    // It holds a password now; a file that somebody has already stays theirs.
    let owner = owner.or_else(|| {
        path.metadata().ok().map(|m| Owner {
            uid: m.uid(),
            gid: m.gid(),
        })
    });
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        crate::account::ensure_folder(folder, 0o700, owner)?;
    }
    write_file(path, edited.as_bytes(), 0o600, owner)
}

/// An empty `clouds:` is read as nothing.
fn equal(got: &Value, wanted: &Value) -> bool {
    let mut got = got.clone();
    if let Some(clouds) = got.as_mapping_mut().and_then(|m| m.get_mut("clouds"))
        && clouds.is_null()
    {
        *clouds = Value::Mapping(Mapping::new());
    }
    got == *wanted
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Replaces, appends or removes one entry in the text, as files in block style are written.
fn edit_text(text: &str, name: &str, value: Option<&Value>) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let top = match lines.iter().position(|line| line.trim_end() == "clouds:") {
        Some(at) => at,
        None => {
            lines.push("clouds:".to_owned());
            lines.len() - 1
        }
    };
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let body = lines[top + 1..]
        .iter()
        .position(|l| !blank(l) && indent(l) == 0)
        .map_or(lines.len(), |n| top + 1 + n);
    let depth = lines[top + 1..body].iter().find(|l| !blank(l)).map_or(2, |l| indent(l));
    let is_entry = |line: &String| {
        let key = line.trim().trim_end_matches(':');
        indent(line) == depth && line.trim_end().ends_with(':') && key.trim_matches(['"', '\'']) == name
    };
    let end_of = |lines: &[String], from: usize, limit: usize| {
        let next = lines[from..limit].iter().position(|l| !blank(l) && indent(l) <= depth);
        let mut end = next.map_or(limit, |n| from + n);
        // Comments and empty lines in front of the next entry are that entry's.
        while end > from && blank(&lines[end - 1]) {
            end -= 1;
        }
        end
    };
    let place = match lines[top + 1..body].iter().position(is_entry) {
        Some(n) => {
            let start = top + 1 + n;
            let end = end_of(&lines, start + 1, body);
            start..end
        }
        None => {
            let end = end_of(&lines, body, body).max(top + 1);
            end..end
        }
    };
    let mut new = Vec::new();
    if let Some(value) = value {
        let mut entry = Mapping::new();
        entry.insert(name.into(), value.clone());
        let yaml = serde_yaml_ng::to_string(&Value::Mapping(entry)).unwrap_or_default();
        new.extend(yaml.lines().map(|line| format!("{}{line}", " ".repeat(depth))));
    }
    lines.splice(place, new);
    lines.join("\n") + "\n"
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn credentials() -> Credentials {
        Credentials {
            auth_url: "http://127.0.0.1:5000/v3".to_owned(),
            user: "admin".to_owned(),
            password: "it's $HOME: \"x\" # y".to_owned(),
            project: "admin".to_owned(),
            domain: "Default".to_owned(),
            region: "RegionOne".to_owned(),
            ca_file: None,
        }
    }

    #[test]
    fn a_shell_reads_back_every_character() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_rc_file(folder.path(), "admin", &credentials(), None).unwrap();
        let script = format!(
            ". {}; printf '%s|%s|%s' \"$OS_PASSWORD\" \"$OS_AUTH_URL\" \"$PS1\"",
            path.display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            r#"it's $HOME: "x" # y|http://127.0.0.1:5000/v3|[\u@\h \W(keystone_admin)]\$ "#
        );
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    fn read(path: &Path) -> Value {
        serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn other_clouds_and_comments_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("openstack/clouds.yaml");
        merge_clouds(&path, &[("ferrostack", &credentials())], None).unwrap();
        assert_eq!(
            read(&path)["clouds"]["ferrostack"]["auth"]["password"],
            "it's $HOME: \"x\" # y"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let before = "# mine\nclouds:\n    # at work\n    work:\n        auth: {username: me}\n\n    ferrostack:\n        auth:\n            username: old\n\n    # at home\n    home:\n        profile: x\ncache:\n  auth: true\n";
        std::fs::write(&path, before).unwrap();
        merge_clouds(
            &path,
            &[("ferrostack", &credentials()), ("ferrostack-demo", &credentials())],
            None,
        )
        .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for kept in [
            "# mine",
            "# at work",
            "auth: {username: me}",
            "# at home",
            "cache:\n  auth: true",
        ] {
            assert!(text.contains(kept), "{kept} is gone from\n{text}");
        }
        assert_eq!(read(&path)["clouds"]["ferrostack"]["auth"]["username"], "admin");
        assert_eq!(read(&path)["clouds"]["ferrostack-demo"]["region_name"], "RegionOne");
        assert_eq!(read(&path)["clouds"]["home"]["profile"], "x");
        remove_clouds(&path, &["ferrostack", "ferrostack-demo"]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("ferrostack") && text.contains("# at home") && text.contains("work:"),
            "{text}"
        );
    }

    #[test]
    fn unusual_styles_keep_their_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clouds.yaml");
        for text in [
            "clouds: {a: {region_name: x}}\n",
            "---\nclouds:\n",
            "{}",
            "clouds:\n  a: &base\n    region_name: x\n",
        ] {
            std::fs::write(&path, text).unwrap();
            merge_clouds(&path, &[("ferrostack", &credentials())], None).unwrap();
            let value = read(&path);
            assert_eq!(value["clouds"]["ferrostack"]["auth"]["username"], "admin", "{text}");
            if text.contains("region_name") {
                assert_eq!(value["clouds"]["a"]["region_name"], "x", "{text}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clouds.yaml");
        for text in ["clouds: [", "- a\n", "clouds: 7\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(
                merge_clouds(&path, &[("f", &credentials())], None),
                Err(Error::Unreadable { .. })
            ));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn the_last_entry_takes_the_file_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clouds.yaml");
        merge_clouds(&path, &[("ferrostack", &credentials())], None).unwrap();
        remove_clouds(&path, &["ferrostack"]).unwrap();
        assert!(!path.exists());
        remove_clouds(&path, &["ferrostack"]).unwrap();
    }
}
