//! Every request and every answer, there and back; and what is neither.

use std::collections::BTreeMap;

use super::*;

fn check_request(line: &str, expected: Result<Request, &str>) {
    match (parse_request(line.as_bytes()), expected) {
        (Ok(request), Ok(wanted)) => assert_eq!(request, wanted, "{line}"),
        (Err(refusal), Err(word)) => {
            assert!(refusal.errors.iter().any(|e| e.contains(word)), "{line}: {refusal:?}");
        }
        (other, _) => panic!("{line}: {other:?}"),
    }
}

#[test]
fn requests() {
    let socket = Request::Socket { service: "finger".to_owned() };
    check_request(r#"{"v":1,"do":"status"}"#, Ok(Request::Status));
    check_request("{ \"do\" : \"reload\", \"v\" : 1 }\r\n", Ok(Request::Reload));
    check_request(r#"{"v":1,"do":"socket","service":"finger"}"#, Ok(socket));
    check_request("", Err("JSON object"));
    check_request("[]", Err("JSON object"));
    check_request("{}{}", Err("JSON object"));
    check_request("\u{0}", Err("JSON object"));
    check_request(r#"{"do":"status"}"#, Err("no version"));
    check_request(r#"{"v":2,"do":"status"}"#, Err("speaks 1"));
    check_request(r#"{"v":"1","do":"status"}"#, Err("speaks 1"));
    check_request(r#"{"v":1.5,"do":"status"}"#, Err("speaks 1"));
    check_request(r#"{"v":1}"#, Err("no \"do\""));
    check_request(r#"{"v":1,"do":7}"#, Err("is a string"));
    check_request(
        r#"{"v":1,"do":"explode"}"#,
        Err("status, reload, socket, pool, bans, explain, ban, unban"),
    );
    let ban = Request::Ban { who: "uid:7".to_owned(), service: None, seconds: 60 };
    check_request(r#"{"v":1,"do":"ban","who":"uid:7","seconds":60}"#, Ok(ban));
    check_request(r#"{"v":1,"do":"ban","who":"uid:7","seconds":-1}"#, Err("is a whole number"));
    check_request(r#"{"v":1,"do":"ban","who":"uid:7"}"#, Err("no \"seconds\""));
    check_request(r#"{"v":1,"do":"ban","who":"uid:7","seconds":1,"service":7}"#, Err("is a string"));
    check_request(r#"{"v":1,"do":"unban"}"#, Err("no \"who\""));
    check_request(r#"{"v":1,"do":"pool"}"#, Ok(Request::Pool { service: None }));
    check_request(r#"{"v":1,"do":"pool","service":7}"#, Err("is a string"));
    check_request(r#"{"v":1,"do":"socket"}"#, Err("no \"service\""));
    check_request(r#"{"v":1,"do":"status","service":"x"}"#, Err("unknown key"));
    check_request(&format!("{}{{}}", " ".repeat(MAX_REQUEST)), Err("at most 4096"));
    check_request(&"[".repeat(MAX_REQUEST), Err("JSON object"));
}

#[test]
fn every_word_is_read_and_written() {
    let service = "a \n\u{1b}".to_owned();
    let who = || "192.0.2.0/24".to_owned();
    let requests = [
        Request::Status,
        Request::Reload,
        Request::Socket { service: service.clone() },
        Request::Pool { service: Some(service) },
        Request::Bans,
        Request::Explain(Question {
            service: "a".to_owned(),
            client: "uid:7".to_owned(),
            uid: Some(7),
            ..Question::default()
        }),
        Request::Ban { who: who(), service: Some("a".to_owned()), seconds: 60 },
        Request::Unban { who: who(), service: None },
    ];
    assert_eq!(requests.len(), Request::WORDS.len());
    for (request, word) in requests.iter().zip(Request::WORDS) {
        let line = encode_request(request);
        assert!(String::from_utf8_lossy(&line).contains(&format!("\"do\":\"{word}\"")));
        assert_eq!(parse_request(&line).as_ref(), Ok(request));
    }
}

#[test]
fn replies_come_back_as_they_were() {
    for (reply, start) in replies() {
        let line = encode_reply(&reply);
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(text.starts_with(start), "{text}");
        assert_eq!(text.find('\n'), Some(text.len() - 1), "{text}");
        assert_eq!(parse_reply(&line), Ok(reply));
    }
}

#[test]
fn a_newer_superd_may_say_more() {
    let line = br#"{"v":1,"ok":true,"new":1,"reload":{"generation":2,"kept":[],"changed":[],"opened":[],
        "closed":[],"warnings":[],"newer":{}}}"#;
    let report = ReloadReport { generation: 2, ..ReloadReport::default() };
    assert_eq!(parse_reply(line), Ok(Reply::Done(Box::new(Answer::Reload(report)))));
    assert_eq!(parse_reply(br#"{"v":9,"ok":true}"#), Err(BadReply::Version(9)));
    assert!(matches!(parse_reply(br#"{"v":1,"ok":true}"#), Err(BadReply::Malformed(_))));
}

#[test]
fn an_answer_beyond_the_bound_is_a_refusal() {
    let reply = Reply::Refused(Refusal::new("x".repeat(MAX_REPLY)));
    let line = encode_reply(&reply);
    assert!(line.len() < 200);
    assert!(matches!(parse_reply(&line), Ok(Reply::Refused(_))));
}

const SPICE: &[u8] = b"\"{}[]:,\\0e\xff";

/// Lines that are nearly right, changed by a fixed generator: whatever they are, they are read or refused.
#[test]
fn mutated_lines_never_panic() {
    let mut seeds: Vec<Vec<u8>> = replies().iter().map(|(reply, _)| encode_reply(reply)).collect();
    seeds
        .extend(Request::WORDS.map(|word| {
            format!("{{\"v\":1,\"do\":\"{word}\",\"service\":\"\\ud83d\\ude00\"}}").into_bytes()
        }));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    };
    let (mut read, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut line = seeds[round % seeds.len()].clone();
        for _ in 0..=random(3) {
            let at = random(line.len());
            match random(4) {
                0 if !line.is_empty() => line[at] = random(256).try_into().unwrap(),
                1 => line.insert(at, SPICE[random(SPICE.len())]),
                2 => line.truncate(at),
                _ => line.extend_from_within(at..),
            }
        }
        let outcomes = [parse_request(&line).is_ok(), parse_reply(&line).is_ok()];
        if outcomes.contains(&true) { read += 1 } else { refused += 1 }
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused: the generator is too dull");
}

fn replies() -> Vec<(Reply, &'static str)> {
    let listener = ListenerStatus {
        endpoint: "tcp:127.0.0.1:79".to_owned(),
        bound: Some("127.0.0.1:79".to_owned()),
        error: None,
        options: BTreeMap::from([("backlog".to_owned(), "4096".to_owned())]),
        queue: Some([0, 4096]),
        dropped: Some(0),
    };
    let service = ServiceStatus {
        name: "finger".to_owned(),
        state: "paused".to_owned(),
        reason: Some("connections".to_owned()),
        retry_in: Some(1.5),
        listeners: vec![ListenerStatus { options: BTreeMap::new(), queue: None, ..listener.clone() }],
        sessions: 3,
        started: 7,
        launch_failed: 1,
        refused: BTreeMap::from([("per_source".to_owned(), 2)]),
        workers: 0,
        datagrams: Some(DatagramStatus { received: 1, sent: 2, answered: 3, refused: 4 }),
    };
    let status = Status {
        version: "0.1.0".to_owned(),
        pid: 4711,
        generation: 1,
        uptime: 5,
        fds: 12,
        services: vec![service],
        sessions: 3,
        workers: 0,
        launches: 0,
        pending: 0,
        strangers: 0,
        dropped_log_lines: 0,
    };
    let pool = PoolStatus {
        service: "app".to_owned(),
        protocol: "handoff".to_owned(),
        generation: 3,
        next: Some(4),
        starting: 1,
        idle: 2,
        busy: 1,
        retiring: 1,
        connections: 2,
        waiting: 7,
        restarts: 9,
        retry_in: Some(0.5),
        limits: PoolLimits { min: 2, spare: Some(1), max: Some(16), ..PoolLimits::default() },
        workers: vec![WorkerStatus {
            pid: 4712,
            state: "ready".to_owned(),
            generation: 3,
            connections: 2,
            served: 70,
            age: 1.5,
        }],
    };
    let report = ReloadReport { generation: 2, opened: vec!["a".to_owned()], ..ReloadReport::default() };
    let refusal = Refusal { errors: vec!["line\nline".to_owned(), "\u{1b}[2J".to_owned()] };
    let done = |answer| Reply::Done(Box::new(answer));
    vec![
        (done(Answer::Status(status)), r#"{"v":1,"ok":true,"status":{"version":"#),
        (done(Answer::Reload(report)), r#"{"v":1,"ok":true,"reload":{"generation":2"#),
        (done(Answer::Socket(vec![listener])), r#"{"v":1,"ok":true,"socket":[{"endpoint":"#),
        (done(Answer::Pool(vec![pool])), r#"{"v":1,"ok":true,"pool":[{"service":"#),
        (Reply::Refused(refusal), r#"{"v":1,"ok":false,"errors":["line\nline""#),
    ]
}
