//! Who must be reached besides WhatsApp, if that is configured: Meta, and a collector of spans.

use reqwest::header::CONTENT_TYPE;

use super::{
    finding::{Check, Finding},
    network::client,
};
use crate::{
    cli::output::Chain,
    config::{self, Config},
    store::look::Look,
};

/// Meta's Graph API, where anybody has an account there, or the operator another address. Any answer will do but one of
/// trouble; nothing is asked, and no token shown.
pub(super) async fn meta(config: &Config, seen: Option<&Look>) -> Option<Finding> {
    let is_used = seen.is_some_and(|seen| seen.has_accounts == Some(true));
    let url = &config.meta.graph_url;
    if !is_used && *url == config::Meta::default().graph_url {
        return None;
    }
    let host = url::Url::parse(url).ok()?.host_str()?.to_owned();
    let asked = async { client()?.head(url).send().await };
    Some(match asked.await {
        Ok(answer) if answer.status().is_server_error() => {
            let says = format!("{host} answers {}", answer.status().as_u16());
            Finding::warning(Check::Meta, says).fix(
                "Meta is in trouble, or a proxy is: https://metastatus.com; what is sent waits",
            )
        }
        Ok(_) => Finding::ok(Check::Meta, format!("{host} answers")),
        Err(error) => {
            let error = error.without_url();
            Finding::fault(Check::Meta, format!("{host} does not answer: {}", Chain(&error))).fix(
                "check DNS and the firewall: wagate calls TCP port 443 of graph.facebook.com and \
                 lookaside.fbsbx.com; or meta.graph_url",
            )
        }
    })
}

/// The collector, which is sent no span, in the way in which it is sent spans. Its address is not shown beyond the host: a
/// service's may have a key in it.
pub(super) async fn collector(traces: &config::Traces) -> Option<Finding> {
    let endpoint = traces.endpoint.as_ref()?;
    let host = url::Url::parse(endpoint).ok()?.host_str()?.to_owned();
    let asked = async {
        let mut request = client()?.post(endpoint).header(CONTENT_TYPE, "application/x-protobuf");
        for (name, value) in traces.headers().unwrap_or_default() {
            request = request.header(name, value);
        }
        request.send().await
    };
    Some(match asked.await {
        Ok(answer) if answer.status().is_success() => {
            Finding::ok(Check::Traces, format!("the collector at {host} takes spans"))
        }
        Ok(answer) => {
            let says = format!("the collector at {host} answers {}", answer.status().as_u16());
            Finding::warning(Check::Traces, says).fix(
                "traces.endpoint is the whole address, as in http://127.0.0.1:4318/v1/traces, and \
                 traces.headers has what the service wants for a key",
            )
        }
        Err(error) => {
            let error = error.without_url();
            let says = format!("the collector at {host} does not answer: {}", Chain(&error));
            Finding::warning(Check::Traces, says).fix(
                "start it, or remove traces.endpoint; the daemon works without, and loses spans",
            )
        }
    })
}
