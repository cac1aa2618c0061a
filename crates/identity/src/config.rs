//! What an operator can set, with upstream's names and defaults.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Identity's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the Fernet keys for tokens; made (0700, key files 0600) where it is not there.
    pub fernet_key_repository: PathBuf,
    /// Folder of the Fernet keys that encrypt stored credentials.
    pub credential_key_repository: PathBuf,
    /// How many token keys are kept when they are rotated.
    pub max_active_keys: usize,
    /// How long a token is good, in seconds.
    pub token_expiration: i64,
    /// How long after its expiry a token can still be validated with `allow_expired`, in seconds.
    pub allow_expired_window: i64,
    /// Whether a scoped token may be exchanged for one of another scope.
    pub allow_rescope_scoped_token: bool,
    /// Cost of bcrypt, 4 to 31.
    pub password_hash_rounds: u32,
    /// Passwords longer than this are cut (bytes); bcrypt itself takes 72.
    pub max_password_length: usize,
    /// Refuse passwords that are too long instead.
    pub strict_password_check: bool,
    /// The domain that requests without one mean.
    pub default_domain_id: String,
    /// How many projects may stand above each other.
    pub max_project_tree_depth: usize,
    /// Most objects in one answer of a list that pages.
    pub max_db_limit: usize,
    /// Most objects in any list; none is no limit.
    pub list_limit: Option<usize>,
    /// How long a right password is remembered (as a keyed digest, in memory), in seconds; 0 is not at all.
    pub password_cache_seconds: u64,
    /// Roles no other role may imply.
    pub prohibited_implied_roles: Vec<String>,
    /// How often a trust may be handed on.
    pub max_redelegation_count: i64,
    /// How many application credentials a user may have; below 0 is no limit.
    pub application_credential_limit: i64,
    /// How many credentials a user may have; below 0 is no limit.
    pub credential_limit: i64,
    /// How long an OAuth request token is good, in seconds; 0 is for ever.
    pub oauth1_request_token_duration: i64,
    /// How long an OAuth access token is good, in seconds; 0 is for ever.
    pub oauth1_access_token_duration: i64,
    /// How old the timestamp of an EC2 signature may be, in minutes.
    pub ec2_auth_ttl: i64,
    /// Prefix of a service provider's relay state where none is given.
    pub relay_state_prefix: String,
    /// Rules for accounts and passwords.
    pub security_compliance: SecurityCompliance,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            fernet_key_repository: "fernet-keys".into(),
            credential_key_repository: "credential-keys".into(),
            max_active_keys: 3,
            token_expiration: 3600,
            allow_expired_window: 48 * 3600,
            allow_rescope_scoped_token: true,
            password_hash_rounds: 12,
            max_password_length: 4096,
            strict_password_check: false,
            default_domain_id: "default".into(),
            max_project_tree_depth: 5,
            max_db_limit: 1000,
            list_limit: None,
            password_cache_seconds: 300,
            prohibited_implied_roles: vec!["admin".into()],
            max_redelegation_count: 3,
            application_credential_limit: -1,
            credential_limit: -1,
            oauth1_request_token_duration: 28_800,
            oauth1_access_token_duration: 86_400,
            ec2_auth_ttl: 15,
            relay_state_prefix: "ss:mem:".into(),
            security_compliance: SecurityCompliance::default(),
        }
    }
}

/// Rules for accounts and passwords.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityCompliance {
    /// After so many days without a login a user counts as disabled.
    pub disable_user_account_days_inactive: Option<i64>,
    /// After so many failed logins an account is locked.
    pub lockout_failure_attempts: Option<i64>,
    /// For so many seconds; 0 is until an administrator enables the user again.
    pub lockout_duration: i64,
    /// Passwords are good for so many days.
    pub password_expires_days: Option<i64>,
    /// A new password must differ from so many last ones (the new one counts).
    pub unique_last_password_count: i64,
    /// A user must keep a password for so many days.
    pub minimum_password_age: i64,
    /// What a password must match.
    pub password_regex: Option<String>,
    /// What that means, for people.
    pub password_regex_description: Option<String>,
    /// A password that an administrator set must be changed before anything else.
    pub change_password_upon_first_use: bool,
}

impl Default for SecurityCompliance {
    fn default() -> SecurityCompliance {
        SecurityCompliance {
            disable_user_account_days_inactive: None,
            lockout_failure_attempts: None,
            lockout_duration: 1800,
            password_expires_days: None,
            unique_last_password_count: 0,
            minimum_password_age: 0,
            password_regex: None,
            password_regex_description: None,
            change_password_upon_first_use: false,
        }
    }
}
