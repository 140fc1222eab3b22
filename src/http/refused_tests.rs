use super::*;

#[test]
fn only_a_bare_and_whole_refusal_is_one() {
    let bare =
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
    assert_eq!(refusal(bare.as_bytes()), Some(Code::BadRequest));
    let other = |status| bare.replace("400 Bad Request", status);
    assert_eq!(refusal(other("414 URI Too Long").as_bytes()), Some(Code::UriTooLong));
    let large = other("431 Request Header Fields Too Large");
    assert_eq!(refusal(large.as_bytes()), Some(Code::HeadersTooLarge));
    for ours in [
        other("200 OK"),
        other("404 Not Found"),
        bare.replace("date: x", "x-request-id: req_1"),
        bare.replace("content-length: 0", "content-length: 2"),
        format!("{bare}{bare}"),
        format!("{bare}x"),
        format!("x{bare}"),
        bare[..bare.len() - 1].to_owned(),
    ] {
        assert_eq!(refusal(ours.as_bytes()), None, "{ours}");
    }
}

#[test]
fn the_document_is_a_whole_answer() {
    let bare = b"HTTP/1.1 431 x\r\ncontent-length: 0\r\ndate: Mon\r\n\r\n";
    let answer = document(Code::HeadersTooLarge, bare, true, None);
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
    for line in [
        "content-type: application/problem+json",
        "connection: close",
        "date: Mon",
        "x-content-type-options: nosniff",
        &format!("content-length: {}", body.len()),
    ] {
        assert!(head.split("\r\n").any(|it| it == line), "{line}: {head}");
    }
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(document["code"], "HEADERS_TOO_LARGE");
    assert_eq!((&document["statusCode"], &document["message"]), (&431.into(), &document["detail"]));
    assert_eq!(document["error"], "Request Header Fields Too Large");
    assert!(head.contains(&format!("x-request-id: {}", document["requestId"].as_str().unwrap())));
}

#[test]
fn pages_may_read_it_where_those_of_all_origins_may_call() {
    let bare = b"HTTP/1.1 431 x\r\ncontent-length: 0\r\n\r\n";
    let allowed = Origins::Any.allowed(None);
    let answer = document(Code::HeadersTooLarge, bare, false, allowed);
    let text = String::from_utf8(answer.to_vec()).unwrap();
    assert!(text.contains("\r\naccess-control-allow-origin: *\r\n"), "{text}");
    let named = Origins::Named(vec![HeaderValue::from_static("https://app.example.com")]);
    assert_eq!(named.allowed(None), None);
}
