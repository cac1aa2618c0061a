//! The check language: `role:admin and (project_id:%(project_id)s or not rule:locked)`.

/// A parsed check, before names are resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expression {
    True,
    False,
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    /// `kind:match`, unresolved.
    Atom(String, String),
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Open,
    Close,
    And,
    Or,
    Not,
    /// A quoted text on its own, which the grammar has no place for.
    Text,
    Check(&'a str),
}

/// Parses a check. One that makes no sense is logged and becomes `!`: oslo.policy fails closed.
pub(crate) fn parse(rule: &str) -> Expression {
    if rule.trim().is_empty() {
        return Expression::True;
    }
    let tokens = tokens(rule);
    let mut parser = Parser { tokens: &tokens, at: 0 };
    match parser.or() {
        Some(expression) if parser.at == tokens.len() => expression,
        _ => {
            tracing::error!(rule, "cannot understand a policy rule; it denies");
            Expression::False
        }
    }
}

/// oslo.policy's tokens: words between white space, with parentheses taken off their ends (not out of their middle, where `%(x)s`
/// has them).
fn tokens(rule: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for word in rule.split_whitespace() {
        let clause = word.trim_start_matches('(');
        tokens.extend((0..word.len() - clause.len()).map(|_| Token::Open));
        if clause.is_empty() {
            continue;
        }
        let inner = clause.trim_end_matches(')');
        let closing = clause.len() - inner.len();
        match inner.to_ascii_lowercase().as_str() {
            "and" => tokens.push(Token::And),
            "or" => tokens.push(Token::Or),
            "not" => tokens.push(Token::Not),
            "" => {}
            _ if is_quoted(inner) => tokens.push(Token::Text),
            _ => tokens.push(Token::Check(inner)),
        }
        tokens.extend((0..closing).map(|_| Token::Close));
    }
    tokens
}

fn is_quoted(text: &str) -> bool {
    text.len() >= 2
        && ((text.starts_with('"') && text.ends_with('"')) || (text.starts_with('\'') && text.ends_with('\'')))
}

struct Parser<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
}

impl Parser<'_> {
    fn take(&mut self, token: &Token<'_>) -> bool {
        let found = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Option<Expression> {
        let mut any = vec![self.and()?];
        while self.take(&Token::Or) {
            any.push(self.and()?);
        }
        Some(if any.len() == 1 {
            any.remove(0)
        } else {
            Expression::Or(any)
        })
    }

    fn and(&mut self) -> Option<Expression> {
        let mut all = vec![self.not()?];
        while self.take(&Token::And) {
            all.push(self.not()?);
        }
        Some(if all.len() == 1 {
            all.remove(0)
        } else {
            Expression::And(all)
        })
    }

    fn not(&mut self) -> Option<Expression> {
        if self.take(&Token::Not) {
            return Some(Expression::Not(Box::new(self.not()?)));
        }
        if self.take(&Token::Open) {
            let inner = self.or()?;
            return self.take(&Token::Close).then_some(inner);
        }
        let Some(Token::Check(text)) = self.tokens.get(self.at) else {
            return None;
        };
        self.at += 1;
        Some(atom(text))
    }
}

fn atom(text: &str) -> Expression {
    match text {
        "!" => return Expression::False,
        "@" => return Expression::True,
        _ => {}
    }
    match text.split_once(':') {
        Some((kind, value)) => Expression::Atom(kind.to_owned(), value.to_owned()),
        None => {
            tracing::error!(check = text, "cannot understand a policy check; it denies");
            Expression::False
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, value: &str) -> Expression {
        Expression::Atom(kind.into(), value.into())
    }

    #[test]
    fn and_binds_tighter_than_or_and_not_tightest() {
        let got = parse("role:a or not role:b and (role:c or @)");
        let want = Expression::Or(vec![
            check("role", "a"),
            Expression::And(vec![
                Expression::Not(Box::new(check("role", "b"))),
                Expression::Or(vec![check("role", "c"), Expression::True]),
            ]),
        ]);
        assert_eq!(got, want);
    }

    #[test]
    fn parentheses_inside_a_template_belong_to_it() {
        assert_eq!(
            parse("(project_id:%(project_id)s)"),
            check("project_id", "%(project_id)s")
        );
        assert_eq!(parse("'public':%(visibility)s"), check("'public'", "%(visibility)s"));
    }

    #[test]
    fn nonsense_denies_and_nothing_allows() {
        for rule in [
            "role:a and",
            "(role:a",
            "role:a role:b",
            "'text'",
            "not",
            "word",
            "role:a)",
        ] {
            assert_eq!(parse(rule), Expression::False, "{rule}");
        }
        assert_eq!(parse("  "), Expression::True);
    }
}
