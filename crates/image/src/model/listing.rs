//! `GET /v2/images`: filters, sort keys and paging out of the query string.

use api::Query;
use database::Direction;

use super::{Limits, Refusal, true_or_false};

/// A comparison that a filter asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// A column that holds text is one of these.
    TextIn(&'static str, Vec<String>),
    /// A column that holds a number compares to this: the operator of SQL, and the number.
    Number(&'static str, &'static str, i64),
    /// The image has this tag.
    Tag(String),
    /// The image has this property with this value.
    Property(String, String),
    /// Nothing can match.
    Nothing,
}

/// What a client wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// All must hold.
    pub filters: Vec<Filter>,
    /// `public`, …; `all`; `None` leaves out other people's community images.
    pub visibility: Option<String>,
    /// Which shared images: `accepted`, …, or `all`.
    pub member_status: String,
    /// Sort keys, unique together.
    pub sort: Vec<(&'static str, Direction)>,
    /// The image after which the page begins.
    pub marker: Option<String>,
    /// Length of the page.
    pub limit: u64,
}

const SORT_KEYS: [&str; 8] = [
    "name",
    "status",
    "container_format",
    "disk_format",
    "size",
    "id",
    "created_at",
    "updated_at",
];

const TEXT_COLUMNS: [&str; 9] = [
    "name",
    "id",
    "status",
    "container_format",
    "disk_format",
    "checksum",
    "os_hash_value",
    "os_hash_algo",
    "owner",
];

const NUMBER_COLUMNS: [&str; 4] = ["size", "virtual_size", "min_disk", "min_ram"];

fn invalid<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(text.into()))
}

impl Listing {
    /// Reads the query. Unknown names are filters on properties.
    ///
    /// # Errors
    /// Upstream's refusals of values that make no sense.
    pub fn parse(query: &Query, limits: &Limits) -> Result<Listing, Refusal> {
        let member_status = query.last("member_status").unwrap_or("accepted");
        let limit = query.last("limit").map(limit).transpose()?;
        let visibility = query.last("visibility").filter(|value| !value.is_empty());
        if let Some(value) = visibility
            && !["community", "public", "private", "shared", "all"].contains(&value)
        {
            return invalid(format!("Invalid visibility value: {value}"));
        }
        if query.last("changes-since").is_some_and(|value| !value.is_empty()) {
            return invalid("The \"changes-since\" filter is no longer available on v2.");
        }
        if !["pending", "accepted", "rejected", "all"].contains(&member_status) {
            return invalid(format!("Invalid status: {member_status}"));
        }
        let sort = sort(query)?;
        Ok(Listing {
            filters: filters(query)?,
            visibility: visibility.map(str::to_owned),
            member_status: member_status.to_owned(),
            sort,
            marker: query.last("marker").map(str::to_owned),
            limit: limit.unwrap_or(limits.page).min(limits.page_max),
        })
    }
}

fn limit(text: &str) -> Result<u64, Refusal> {
    match text.trim().parse::<i64>() {
        Ok(limit) if limit < 0 => invalid("limit param must be positive"),
        Ok(limit) => Ok(limit.unsigned_abs()),
        Err(_) => invalid("limit param must be an integer"),
    }
}

fn sort_key(key: &str) -> Result<&'static str, Refusal> {
    match SORT_KEYS.iter().find(|known| **known == key) {
        Some(known) => Ok(known),
        None => invalid(format!(
            "Invalid sort key: {key}. It must be one of the following: {}.",
            SORT_KEYS.join(", ")
        )),
    }
}

fn sort_dir(direction: &str) -> Result<Direction, Refusal> {
    match direction {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => invalid(format!("Invalid sort direction: {direction}")),
    }
}

fn sort(query: &Query) -> Result<Vec<(&'static str, Direction)>, Refusal> {
    let mut keys = Vec::new();
    let mut directions = Vec::new();
    if let Some(list) = query.last("sort") {
        if query.contains("sort_key") || query.contains("sort_dir") {
            return invalid("Old and new sorting syntax cannot be combined");
        }
        for part in list.trim().split(',') {
            let (key, direction) = part.split_once(':').unwrap_or((part, ""));
            keys.push(sort_key(key.trim())?);
            directions.push(sort_dir(if direction.is_empty() { "desc" } else { direction.trim() })?);
        }
    } else {
        // Upstream takes the last of repeated parameters first.
        for key in query.all("sort_key").collect::<Vec<_>>().into_iter().rev() {
            keys.push(sort_key(key.trim())?);
        }
        for direction in query.all("sort_dir").collect::<Vec<_>>().into_iter().rev() {
            directions.push(sort_dir(direction.trim())?);
        }
        if directions.len() > 1 && directions.len() != keys.len() {
            return invalid("Number of sort dirs does not match the number of sort keys");
        }
    }
    if keys.is_empty() {
        keys.push("created_at");
    }
    if directions.is_empty() {
        directions.push(Direction::Descending);
    }
    let default = if directions.len() == 1 {
        directions[0]
    } else {
        Direction::Descending
    };
    directions.resize(keys.len(), default);
    let mut sort: Vec<_> = keys.into_iter().zip(directions).collect();
    for key in ["created_at", "id"] {
        if !sort.iter().any(|(have, _)| *have == key) {
            sort.push((key, default));
        }
    }
    Ok(sort)
}

/// Parameters that are not filters.
const OTHERS: [&str; 11] = [
    "limit",
    "marker",
    "member_status",
    "sort",
    "sort_key",
    "sort_dir",
    "visibility",
    "changes-since",
    "deleted",
    "os_hidden",
    "tag",
];

fn filters(query: &Query) -> Result<Vec<Filter>, Refusal> {
    let hidden = query.last("os_hidden").unwrap_or("false").to_lowercase();
    let mut filters = vec![flag("os_hidden", true_or_false(&hidden, "os_hidden")?)];
    if let Some(value) = query.last("protected") {
        filters.push(flag("protected", true_or_false(value, "protected")?));
    }
    filters.extend(query.all("tag").map(|tag| Filter::Tag(tag.trim().to_owned())));
    let mut seen: Vec<&str> = Vec::new();
    for (name, _) in query.iter() {
        if OTHERS.contains(&name) || name == "protected" || seen.contains(&name) {
            continue;
        }
        seen.push(name);
        if let Some(value) = query.last(name) {
            filters.push(filter(name, value)?);
        }
    }
    Ok(filters)
}

fn flag(column: &'static str, value: bool) -> Filter {
    Filter::Number(column, "=", i64::from(value))
}

fn filter(name: &str, value: &str) -> Result<Filter, Refusal> {
    for (suffix, operator) in [("_min", ">="), ("_max", "<=")] {
        let column = name
            .strip_suffix(suffix)
            .and_then(|stem| NUMBER_COLUMNS.into_iter().find(|known| *known == stem));
        if let Some(column) = column {
            return match value.trim().parse() {
                Ok(number) => Ok(Filter::Number(column, operator, number)),
                Err(_) => invalid("Unable to filter on a range with a non-numeric value."),
            };
        }
    }
    if let Some(column) = ["created_at", "updated_at"].into_iter().find(|known| *known == name) {
        return time(column, value);
    }
    if let Some(column) = TEXT_COLUMNS.into_iter().find(|known| *known == name) {
        // Only the first five of the columns know operators.
        if TEXT_COLUMNS.iter().position(|known| *known == name) > Some(4) {
            return Ok(Filter::TextIn(column, vec![value.to_owned()]));
        }
        return match split_operator(value) {
            ("in", list) => Ok(Filter::TextIn(column, split_quoted(list)?)),
            ("eq", value) => Ok(Filter::TextIn(column, vec![value.to_owned()])),
            (operator, _) => invalid(format!("Unable to filter by unknown operator '{operator}'.")),
        };
    }
    if let Some(column) = NUMBER_COLUMNS.into_iter().find(|known| *known == name) {
        return Ok(value
            .trim()
            .parse()
            .map_or(Filter::Nothing, |number| Filter::Number(column, "=", number)));
    }
    Ok(Filter::Property(name.to_owned(), value.to_owned()))
}

/// `in:a,b`; without a colon it is equality. A time has colons of its own.
fn split_operator(expression: &str) -> (&str, &str) {
    match expression.split_once(':') {
        Some(parts) if api::time::parse(expression).is_none() => parts,
        _ => ("eq", expression),
    }
}

fn time(column: &'static str, value: &str) -> Result<Filter, Refusal> {
    let (operator, text) = split_operator(value);
    let Some(threshold) = api::time::parse(text) else {
        return invalid(format!(
            "Bad \"{column}\" query filter format. Use ISO 8601 DateTime notation."
        ));
    };
    let operator = match operator {
        "gt" => ">",
        "gte" => ">=",
        "lt" => "<",
        "lte" => "<=",
        "neq" => "<>",
        "eq" => "=",
        _ => return invalid("Unable to filter on a unknown operator."),
    };
    Ok(Filter::Number(column, operator, threshold))
}

/// Splits `a,"b,c"` at the commas outside of quotes.
fn split_quoted(value: &str) -> Result<Vec<String>, Refusal> {
    let chars: Vec<char> = value.chars().collect();
    let mut open = true;
    for (at, c) in chars.iter().enumerate() {
        if *c != '"' || (at > 0 && chars[at - 1] == '\\') {
            continue;
        }
        if open && at > 0 && chars[at - 1] != ',' {
            return invalid(format!(
                "Invalid filter value {value}. There is no comma before opening quotation mark."
            ));
        }
        if !open && at + 1 != chars.len() && chars[at + 1] != ',' {
            return invalid(format!(
                "Invalid filter value {value}. There is no comma after closing quotation mark."
            ));
        }
        open = !open;
    }
    if !open {
        return invalid(format!("Invalid filter value {value}. The quote is not closed."));
    }
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut escaped = false;
    for c in chars {
        let last = parts.len() - 1;
        match c {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            c => parts[last].push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Listing, String> {
        Listing::parse(&Query::parse(query), &Limits::default()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn names_may_be_listed_with_quotes() {
        let listing = parse("name=in:a,%22b,c%22").unwrap();
        assert!(
            listing
                .filters
                .contains(&Filter::TextIn("name", vec!["a".into(), "b,c".into()]))
        );
        assert!(
            parse("name=in:a%22b%22")
                .unwrap_err()
                .ends_with("There is no comma before opening quotation mark.")
        );
        assert!(parse("name=in:%22a").unwrap_err().ends_with("The quote is not closed."));
        assert_eq!(
            parse("status=neq:active").unwrap_err(),
            "Unable to filter by unknown operator 'neq'."
        );
    }

    #[test]
    fn times_and_sizes_compare() {
        let listing = parse("created_at=gt:2026-01-01T00:00:00Z&size_min=5&size_max=9").unwrap();
        assert!(matches!(
            listing.filters[1],
            Filter::Number("created_at", ">", 1_767_225_600_000_000)
        ));
        assert_eq!(listing.filters[2], Filter::Number("size", ">=", 5));
        assert_eq!(listing.filters[3], Filter::Number("size", "<=", 9));
        assert_eq!(
            parse("size_min=x").unwrap_err(),
            "Unable to filter on a range with a non-numeric value."
        );
        assert!(
            parse("updated_at=gt:now")
                .unwrap_err()
                .starts_with("Bad \"updated_at\" query filter format.")
        );
    }

    #[test]
    fn sorting_ends_in_a_unique_key() {
        use Direction::{Ascending, Descending};
        assert_eq!(
            parse("").unwrap().sort,
            [("created_at", Descending), ("id", Descending)]
        );
        assert_eq!(
            parse("sort=name:asc,size").unwrap().sort,
            [
                ("name", Ascending),
                ("size", Descending),
                ("created_at", Descending),
                ("id", Descending)
            ]
        );
        assert_eq!(
            parse("sort_key=name&sort_dir=asc").unwrap().sort,
            [("name", Ascending), ("created_at", Ascending), ("id", Ascending)]
        );
        assert!(
            parse("sort=foo")
                .unwrap_err()
                .starts_with("Invalid sort key: foo. It must be one of")
        );
        assert_eq!(
            parse("sort=name&sort_key=id").unwrap_err(),
            "Old and new sorting syntax cannot be combined"
        );
    }

    #[test]
    fn limits_are_capped() {
        assert_eq!(parse("limit=5000").unwrap().limit, 1000);
        assert_eq!(parse("limit=-1").unwrap_err(), "limit param must be positive");
        assert_eq!(parse("limit=x").unwrap_err(), "limit param must be an integer");
        assert_eq!(parse("").unwrap().limit, 25);
    }
}
