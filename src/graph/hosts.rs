//! Hosts that an account's token is shown to when a file is fetched: what Graph names as a file's address is Meta's, or nothing
//! is asked of it.

use url::{Host, Url};

/// Where Meta keeps files. A dot before a name stands for all that is below it.
const OF_META: [&str; 3] = ["lookaside.fbsbx.com", ".fbcdn.net", ".whatsapp.net"];

/// Where a token may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    names: Vec<String>,
    /// The operator's own Graph API is reached without TLS, and so are its files.
    is_plain: bool,
}

impl Hosts {
    /// Those of Meta's, that of the Graph API itself, and what the operator names besides.
    pub(super) fn new(graph: &str, more: &[String]) -> Self {
        let graph = Url::parse(graph).ok();
        let is_plain = graph.as_ref().is_some_and(|url| url.scheme() == "http");
        let own = graph.and_then(|url| url.host_str().map(str::to_owned));
        let more = more.iter().map(|name| name.to_ascii_lowercase());
        let names = OF_META.iter().map(|&name| name.to_owned()).chain(own).chain(more).collect();
        Self { names, is_plain }
    }

    /// An address that a token may be shown to.
    pub(super) fn allow(&self, text: &str) -> Option<Url> {
        let url = Url::parse(text).ok()?;
        let is_safe = url.scheme() == "https" || (self.is_plain && url.scheme() == "http");
        let has_name = !url.username().is_empty() || url.password().is_some();
        let host = match url.host()? {
            Host::Domain(name) => name.to_owned(),
            literal => literal.to_string(),
        };
        let fits = |name: &String| match name.strip_prefix('.') {
            Some(_) => host.len() > name.len() && host.ends_with(name.as_str()),
            None => host == *name,
        };
        (is_safe && !has_name && self.names.iter().any(fits)).then_some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_meta_s_hosts_and_nowhere_else() {
        let hosts = Hosts::new("https://graph.facebook.com", &["files.example.com".to_owned()]);
        for good in [
            "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1",
            "https://LOOKASIDE.fbsbx.com/x",
            "https://scontent.fbcdn.net/x",
            "https://mmg.whatsapp.net/x",
            "https://graph.facebook.com/v24.0/x",
            "https://files.example.com/x",
        ] {
            assert!(hosts.allow(good).is_some(), "{good}");
        }
        for bad in [
            "http://lookaside.fbsbx.com/x",
            "https://lookaside.fbsbx.com.evil.test/x",
            "https://evil.test/lookaside.fbsbx.com",
            "https://evil.test#.fbcdn.net",
            "https://evilfbcdn.net/x",
            "https://.fbcdn.net/x",
            "https://fbcdn.net/x",
            "https://lookaside.fbsbx.com@evil.test/x",
            "https://a:b@lookaside.fbsbx.com/x",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "file:///etc/passwd",
            "lookaside.fbsbx.com/x",
            "",
        ] {
            assert_eq!(hosts.allow(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_operator_s_own_graph_without_tls_has_its_files_without_tls() {
        let hosts = Hosts::new("http://127.0.0.1:8080", &[]);
        assert!(hosts.allow("http://127.0.0.1:8081/x").is_some());
        assert!(hosts.allow("http://127.0.0.2/x").is_none());
    }
}
