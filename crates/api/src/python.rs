//! How Python writes values, for upstream's error texts: `repr()` and `pprint.pformat()`.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Python's `repr()` of a JSON value.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(value, &mut out);
    out
}

/// Python's `repr()` of a text.
pub fn repr_str(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_str(text, &mut out);
    out
}

fn write_repr(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => write_float(float, out),
            None => {
                let _ = write!(out, "{number}");
            }
        },
        Value::String(text) => write_str(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_str(key, out);
                out.push_str(": ");
                write_repr(item, out);
            }
            out.push('}');
        }
    }
}

/// Shortest digits that read back the same; an exponent from 1e16 up and below 1e-4, with a sign and two digits.
fn write_float(float: f64, out: &mut String) {
    let magnitude = float.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
    } else {
        let _ = write!(out, "{float:?}");
    }
}

fn write_str(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() || matches!(c, '\u{ad}' | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}') => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Python's `pprint.pformat(value, width=width, sort_dicts=False)`.
pub fn pformat(value: &Value, width: usize) -> String {
    let mut printer = Printer {
        width,
        out: String::new(),
    };
    printer.format(value, 0, 0, 0);
    printer.out
}

struct Printer {
    width: usize,
    out: String,
}

fn length(text: &str) -> usize {
    text.chars().count()
}

impl Printer {
    fn format(&mut self, value: &Value, indent: usize, allowance: usize, level: usize) {
        let rep = repr(value);
        if length(&rep) + indent + allowance > self.width {
            match value {
                Value::Object(map) => return self.object(map, indent, allowance, level + 1),
                Value::Array(items) => return self.array(items, indent, allowance, level + 1),
                Value::String(text) => return self.text(text, indent, allowance, level + 1),
                _ => {}
            }
        }
        self.out.push_str(&rep);
    }

    fn line(&mut self, indent: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    fn object(&mut self, map: &Map<String, Value>, indent: usize, allowance: usize, level: usize) {
        self.out.push('{');
        for (index, (key, item)) in map.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
                self.line(indent + 1);
            }
            let key = repr_str(key);
            self.out.push_str(&key);
            self.out.push_str(": ");
            let after = if index + 1 == map.len() { allowance + 1 } else { 1 };
            self.format(item, indent + 1 + length(&key) + 2, after, level);
        }
        self.out.push('}');
    }

    fn array(&mut self, items: &[Value], indent: usize, allowance: usize, level: usize) {
        self.out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
                self.line(indent + 1);
            }
            let after = if index + 1 == items.len() { allowance + 1 } else { 1 };
            self.format(item, indent + 1, after, level);
        }
        self.out.push(']');
    }

    /// Long texts are broken at white space into several literals, in parentheses when they stand alone.
    fn text(&mut self, text: &str, mut indent: usize, mut allowance: usize, level: usize) {
        if level == 1 {
            indent += 1;
            allowance += 1;
        }
        let room = self.width.saturating_sub(indent);
        let mut chunks = Vec::new();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for (at, line) in lines.iter().enumerate() {
            let last_line = at + 1 == lines.len();
            let rep = repr_str(line);
            if length(&rep) <= room.saturating_sub(if last_line { allowance } else { 0 }) {
                chunks.push(rep);
                continue;
            }
            let parts = words(line);
            let mut current = String::new();
            for (index, part) in parts.iter().enumerate() {
                let last = last_line && index + 1 == parts.len();
                let candidate = format!("{current}{part}");
                if length(&repr_str(&candidate)) > room.saturating_sub(if last { allowance } else { 0 }) {
                    if !current.is_empty() {
                        chunks.push(repr_str(&current));
                    }
                    current = (*part).to_owned();
                } else {
                    current = candidate;
                }
            }
            if !current.is_empty() {
                chunks.push(repr_str(&current));
            }
        }
        let wrap = level == 1 && chunks.len() > 1;
        if wrap {
            self.out.push('(');
        }
        for (index, chunk) in chunks.iter().enumerate() {
            if index > 0 {
                self.line(indent);
            }
            self.out.push_str(chunk);
        }
        if wrap {
            self.out.push(')');
        }
    }
}

/// Words with the white space that follows each.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut in_space = false;
    for (at, c) in line.char_indices() {
        if c.is_whitespace() {
            in_space = true;
        } else if in_space {
            words.push(&line[start..at]);
            start = at;
            in_space = false;
        }
    }
    if start < line.len() {
        words.push(&line[start..]);
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_read_as_python_writes_them() {
        let value = json!({"a": [1, 1.5, 1e16, 1e-5, true, null], "it's": "x\n\"\u{1}é"});
        assert_eq!(
            repr(&value),
            r#"{'a': [1, 1.5, 1e+16, 1e-05, True, None], "it's": 'x\n"\x01é'}"#
        );
        assert_eq!(repr(&json!(1.0)), "1.0");
    }

    #[test]
    fn long_values_break_as_pprint_breaks_them() {
        let value = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 200}},
            "required": ["name"], "additionalProperties": false});
        assert_eq!(
            pformat(&value, 72),
            "{'type': 'object',\n 'properties': {'name': {'type': 'string', 'maxLength': 200}},\n \
             'required': ['name'],\n 'additionalProperties': False}"
        );
        let text = json!("aaaaaaaaaa bbbbbbbbbb cccccccccc");
        assert_eq!(pformat(&text, 20), "('aaaaaaaaaa '\n 'bbbbbbbbbb '\n 'cccccccccc')");
    }
}
