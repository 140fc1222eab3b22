//! The daemon itself.

use serde_json::json;

use super::success;
use crate::http::{
    api::{Success, health::IndexView, problems::ProblemView},
    code::Code,
    operation::{Content, Operation, Tag, operation},
};

/// Some of the figures, as they are written.
const FIGURES: &str = "# HELP wagate_sessions Sessions by status.\n# TYPE wagate_sessions gauge\n\
                       wagate_sessions{status=\"session_connected\"} 3\n# EOF\n";

pub(in crate::http::api) fn index() -> Operation {
    let example = json!({
        "name": "wagate", "version": "0.2.0",
        "sessions": "/api/whatsapp/session/list-realtime", "events": "/api/whatsapp/events",
        "openapi": "/openapi.json", "docs": "/docs",
    });
    operation("getIndex", Tag::Daemon, "Where to begin").answers::<IndexView>(
        200,
        "Some addresses.",
        example,
    )
}

pub(in crate::http::api) fn live() -> Operation {
    operation("getLiveness", Tag::Daemon, "Whether the daemon runs")
        .answers_nothing(204, "It does.")
}

pub(in crate::http::api) fn ready() -> Operation {
    operation("getReadiness", Tag::Daemon, "Whether the daemon can do its work")
        .answers_nothing(204, "It can.")
        .answers_nothing(503, "Not at the moment: its log says why.")
}

pub(in crate::http::api) fn metrics() -> Operation {
    operation("getMetrics", Tag::Daemon, "Figures for Prometheus").response(
        200,
        "All figures, as OpenMetrics writes them.",
        vec![Content::Text { kind: crate::http::api::metrics::CONTENT_TYPE, example: FIGURES }],
    )
}

/// A page for people, or a part of one.
fn page(id: &'static str, summary: &'static str, kind: &'static [&'static str]) -> Operation {
    operation(id, Tag::Daemon, summary)
        .response(200, "It.", vec![Content::Media(kind)])
        .says("Content-Security-Policy", "It loads nothing from elsewhere.")
}

const HTML: &[&str] = &["text/html; charset=utf-8"];
const CSS: &[&str] = &["text/css; charset=utf-8"];
const JAVASCRIPT: &[&str] = &["text/javascript; charset=utf-8"];

pub(in crate::http::api) fn dashboard() -> Operation {
    page("getDashboard", "A page that shows sessions and their QR codes", HTML)
}

pub(in crate::http::api) fn dashboard_style() -> Operation {
    page("getDashboardStyle", "A part of the dashboard", CSS)
}

pub(in crate::http::api) fn dashboard_script() -> Operation {
    page("getDashboardScript", "A part of the dashboard", JAVASCRIPT)
}

pub(in crate::http::api) fn docs() -> Operation {
    page("getDocs", "This document as a page, to read and to try", HTML)
}

pub(in crate::http::api) fn docs_style() -> Operation {
    page("getDocsStyle", "A part of the page", CSS)
}

pub(in crate::http::api) fn docs_script() -> Operation {
    page("getDocsScript", "A part of the page", JAVASCRIPT)
}

pub(in crate::http::api) fn docs_library_style() -> Operation {
    page("getDocsLibraryStyle", "A part of the page", CSS)
}

pub(in crate::http::api) fn docs_library() -> Operation {
    page("getDocsLibrary", "A part of the page", JAVASCRIPT)
}

pub(in crate::http::api) fn openapi() -> Operation {
    operation("getOpenApi", Tag::Daemon, "This document").response(
        200,
        "OpenAPI 3.1.",
        vec![Content::Media(&["application/json"])],
    )
}

fn problem() -> serde_json::Value {
    let code = Code::SessionNotFound;
    json!({
        "code": code.word(), "status": code.status().as_u16(), "title": code.title(),
        "about": code.about(), "example": code.example(),
    })
}

pub(in crate::http::api) fn problems() -> Operation {
    operation("listProblems", Tag::Daemon, "Every code that a problem document can have")
        .answers::<Success<Vec<ProblemView>>>(200, "All of them.", success(&json!([problem()])))
}

pub(in crate::http::api) fn explain_problem() -> Operation {
    operation("getProblem", Tag::Daemon, "What a problem's code means")
        .about("The `type` of every problem document is the address of this.")
        .answers::<Success<ProblemView>>(
            200,
            "What it means, with an example.",
            success(&problem()),
        )
        .refuses([Code::ProblemNotFound])
}
