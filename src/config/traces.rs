//! `[traces]`: spans of requests, for a collector.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    SecretText,
    rule::{Rule, Ruled},
};

/// Whether this build can export spans.
const EXPORTS: bool = cfg!(feature = "otlp");

/// Spans of requests, for a collector that speaks OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// Where spans are posted to, as in `http://127.0.0.1:4318/v1/traces`. Without it nothing is exported.
    /// Only a build with the `otlp` feature accepts it.
    pub endpoint: Option<String>,
    /// Headers that are sent with them, as in `authorization=Bearer abc, x-scope=wagate`. Better in the
    /// environment than in the file.
    pub headers: Option<SecretText>,
    /// Of so many requests the spans of one are exported, chosen by chance.
    pub one_in: u32,
}

impl Default for Traces {
    fn default() -> Self {
        Self { endpoint: None, headers: None, one_in: 1 }
    }
}

impl Traces {
    /// Names and values of [`Self::headers`]; none if they are not well formed.
    pub fn headers(&self) -> Option<Vec<(&str, &str)>> {
        let text = self.headers.as_ref().map_or("", SecretText::expose);
        let each = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        each.map(|one| one.split_once('=').filter(|(name, value)| is_header(name, value))).collect()
    }
}

impl Ruled for Traces {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "traces.endpoint",
            must: "exporting needs a build with the `otlp` feature",
            holds: |it| EXPORTS || it.endpoint.is_none(),
        },
        Rule {
            key: "traces.endpoint",
            must: "must be an http or https URL",
            holds: |it| it.endpoint.as_deref().is_none_or(is_web),
        },
        Rule {
            key: "traces.headers",
            must: "must be names and values as in name=value, with commas between them",
            holds: |it| it.headers().is_some(),
        },
        Rule {
            key: "traces.one_in",
            must: "must be between 1 and 1000000",
            holds: |it| (1..=1_000_000).contains(&it.one_in),
        },
    ];
}

fn is_web(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn is_header(name: &str, value: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty()
        && name.bytes().all(is_token)
        && value.bytes().all(|it| (b' '..=b'~').contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_names_and_values_with_commas_between_them() {
        let headers = |text: &str| {
            let traces = Traces { headers: Some(text.to_owned().into()), ..Traces::default() };
            let found = traces.headers();
            found.map(|all| all.iter().map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>())
        };
        assert_eq!(Traces::default().headers(), Some(Vec::new()));
        let two = headers("authorization=Basic YTpi==, x-scope=1").unwrap();
        assert_eq!(two, ["authorization: Basic YTpi==", "x-scope: 1"]);
        for wrong in ["authorization", "=1", "a b=1", "a=\u{e9}"] {
            assert_eq!(headers(wrong), None, "{wrong}");
        }
    }
}
