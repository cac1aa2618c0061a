//! Errors that a switch answers with, as readable text (OpenFlow 1.4, section 7.5.4).

use std::fmt;

/// An error message of the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchError {
    /// Group of errors; 0xffff is an experimenter's.
    pub kind: u16,
    /// Which one.
    pub code: u16,
    /// The beginning of the message that caused it.
    pub data: Vec<u8>,
}

impl SwitchError {
    /// Whether a bundle, not what is in it, has failed.
    pub fn is_bundle_failure(&self) -> bool {
        self.kind == 17
    }
}

impl std::error::Error for SwitchError {}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, codes): (&str, &[&str]) = match self.kind {
            0 => ("hello failed", &["incompatible version", "not permitted"]),
            1 => ("bad request", BAD_REQUEST),
            2 => ("bad action", BAD_ACTION),
            3 => ("bad instruction", BAD_INSTRUCTION),
            4 => ("bad match", BAD_MATCH),
            5 => ("flow mod failed", FLOW_MOD),
            6 => ("group mod failed", GROUP_MOD),
            7 => (
                "port mod failed",
                &[
                    "bad port",
                    "bad hardware address",
                    "bad config",
                    "bad advertise",
                    "not permitted",
                ],
            ),
            8 => ("table mod failed", &["bad table", "bad config", "not permitted"]),
            9 => ("queue operation failed", &["bad port", "bad queue", "not permitted"]),
            10 => ("switch config failed", &["bad flags", "bad length", "not permitted"]),
            11 => ("role request failed", &["stale", "unsupported", "bad role"]),
            12 => ("meter mod failed", METER_MOD),
            13 => ("table features failed", &[]),
            17 => ("bundle failed", BUNDLE),
            0xffff => ("experimenter's error", &[]),
            n => return write!(f, "error type {n} code {}", self.code),
        };
        match codes.get(usize::from(self.code)) {
            Some(text) => write!(f, "{kind}: {text}"),
            None => write!(f, "{kind}: code {}", self.code),
        }
    }
}

const BAD_REQUEST: &[&str] = &[
    "bad version",
    "bad type",
    "bad multipart type",
    "bad experimenter",
    "bad experimenter type",
    "not permitted",
    "bad length",
    "buffer empty",
    "buffer unknown",
    "bad table id",
    "is slave",
    "bad port",
    "bad packet",
    "multipart buffer overflow",
    "multipart request timeout",
    "multipart reply timeout",
];
const BAD_ACTION: &[&str] = &[
    "bad type",
    "bad length",
    "bad experimenter",
    "bad experimenter type",
    "bad output port",
    "bad argument",
    "not permitted",
    "too many",
    "bad queue",
    "bad output group",
    "inconsistent with the match",
    "unsupported order",
    "bad tag",
    "bad set-field type",
    "bad set-field length",
    "bad set-field argument",
];
const BAD_INSTRUCTION: &[&str] = &[
    "unknown instruction",
    "unsupported instruction",
    "bad table id",
    "unsupported metadata",
    "unsupported metadata mask",
    "bad experimenter",
    "bad experimenter type",
    "bad length",
    "not permitted",
    "duplicate instruction",
];
const BAD_MATCH: &[&str] = &[
    "bad type",
    "bad length",
    "bad tag",
    "bad data link mask",
    "bad network mask",
    "bad wildcards",
    "bad field",
    "bad value",
    "bad mask",
    "a field's prerequisite is missing",
    "duplicate field",
    "not permitted",
];
const FLOW_MOD: &[&str] = &[
    "unknown",
    "table full",
    "bad table id",
    "overlap",
    "not permitted",
    "bad timeout",
    "bad command",
    "bad flags",
    "cannot synchronise",
    "bad priority",
];
const GROUP_MOD: &[&str] = &[
    "group exists",
    "invalid group",
    "weight unsupported",
    "out of groups",
    "out of buckets",
    "chaining unsupported",
    "watch unsupported",
    "loop",
    "unknown group",
    "chained group",
    "bad type",
    "bad command",
    "bad bucket",
    "bad watch",
    "not permitted",
];
const METER_MOD: &[&str] = &[
    "unknown",
    "meter exists",
    "invalid meter",
    "unknown meter",
    "bad command",
    "bad flags",
    "bad rate",
    "bad burst",
    "bad band",
    "bad band value",
    "out of meters",
    "out of bands",
];
const BUNDLE: &[&str] = &[
    "unknown",
    "not permitted",
    "bad id",
    "bundle exists",
    "bundle closed",
    "out of bundles",
    "bad type",
    "bad flags",
    "message has a bad length",
    "message has a bad xid",
    "message unsupported",
    "message conflict",
    "too many messages",
    "a message failed",
    "timeout",
    "bundle in progress",
];
