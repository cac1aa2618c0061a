//! [`record!`](crate::record): a struct that is a row.

/// Declares a struct whose fields are the columns of one table (first the key), with the statements that move it in and out.
///
/// ```
/// database::record! {
///     /// A pet.
///     pub struct Pet in "pets" {
///         /// Its name.
///         pub name: String,
///         /// How many legs it has.
///         pub legs: Option<i64>,
///     }
/// }
/// # fn main() -> Result<(), database::Error> {
/// # let db = database::Database::temporary()?;
/// # db.write(|tx| tx.batch("CREATE TABLE pets (name TEXT PRIMARY KEY, legs BIGINT)"))?;
/// db.write(|tx| Pet { name: "ant".into(), legs: Some(6) }.insert(tx))?;
/// assert_eq!(db.read(|tx| Pet::get(tx, "ant"))?.map(|p| p.legs), Some(Some(6)));
/// # Ok(()) }
/// ```
#[macro_export]
macro_rules! record {
    ($(#[$meta:meta])* $vis:vis struct $name:ident in $table:literal {
        $(#[$kmeta:meta])* $kvis:vis $key:ident : $kty:ty
        $(, $(#[$fmeta:meta])* $fvis:vis $field:ident : $ty:ty)* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $(#[$kmeta])* $kvis $key: $kty,
            $($(#[$fmeta])* $fvis $field: $ty,)*
        }
        #[allow(dead_code)]
        impl $name {
            /// The table's name.
            pub const TABLE: &'static str = $table;
            /// The columns, in the struct's order.
            pub const FIELDS: &'static [&'static str] = &[stringify!($key) $(, stringify!($field))*];
            /// The columns as a select list, each behind `alias.` where one is given.
            pub fn columns(alias: &str) -> String {
                let dot = if alias.is_empty() { "" } else { "." };
                Self::FIELDS.iter().map(|f| format!("{alias}{dot}{f}")).collect::<Vec<_>>().join(", ")
            }
            /// Reads a row whose first columns are [`Self::columns`].
            pub fn from_row(row: &$crate::Row) -> $crate::Result<Self> {
                Self::from_row_at(row, 0)
            }
            /// As [`Self::from_row`], from column `at` on.
            #[allow(unused_assignments)]
            pub fn from_row_at(row: &$crate::Row, at: usize) -> $crate::Result<Self> {
                let mut next = at;
                let $key: $kty = row.get(next)?;
                next += 1;
                $(let $field: $ty = row.get(next)?; next += 1;)*
                Ok(Self { $key, $($field,)* })
            }
            /// Adds the row.
            pub fn insert(&self, tx: &mut $crate::Tx<'_>) -> $crate::Result<()> {
                static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
                let sql = SQL.get_or_init(|| {
                    let places = (1..=Self::FIELDS.len()).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
                    format!("INSERT INTO {} ({}) VALUES ({})", $table, Self::columns(""), places)
                });
                tx.execute(sql, &$crate::params![self.$key.clone() $(, self.$field.clone())*]).map(|_| ())
            }
            /// Writes every column of the row with this key; false where there is none.
            pub fn update(&self, tx: &mut $crate::Tx<'_>) -> $crate::Result<bool> {
                static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
                let sql = SQL.get_or_init(|| {
                    let sets = Self::FIELDS.iter().enumerate().skip(1).map(|(i, f)| format!("{f} = ?{}", i + 1)).collect::<Vec<_>>().join(", ");
                    format!("UPDATE {} SET {} WHERE {} = ?1", $table, sets, stringify!($key))
                });
                Ok(tx.execute(sql, &$crate::params![self.$key.clone() $(, self.$field.clone())*])? > 0)
            }
            /// The row with this key.
            pub fn get(tx: &mut $crate::Tx<'_>, key: &str) -> $crate::Result<Option<Self>> {
                static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
                let sql = SQL.get_or_init(|| format!("SELECT {} FROM {} WHERE {} = ?1", Self::columns(""), $table, stringify!($key)));
                tx.query_one(sql, &$crate::params![key])?.as_ref().map(Self::from_row).transpose()
            }
            /// Removes the row with this key; false where there was none.
            pub fn delete(tx: &mut $crate::Tx<'_>, key: &str) -> $crate::Result<bool> {
                static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
                let sql = SQL.get_or_init(|| format!("DELETE FROM {} WHERE {} = ?1", $table, stringify!($key)));
                Ok(tx.execute(sql, &$crate::params![key])? > 0)
            }
            /// The rows that `rest` picks: what stands after `FROM table`, for example `"WHERE legs > ?1 ORDER BY name"`.
            pub fn select(tx: &mut $crate::Tx<'_>, rest: &str, params: &[$crate::Value]) -> $crate::Result<Vec<Self>> {
                let sql = format!("SELECT {} FROM {} {}", Self::columns(""), $table, rest);
                tx.query(&sql, params)?.iter().map(Self::from_row).collect()
            }
        }
    };
}
