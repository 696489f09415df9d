//! Programs that use musl ask name servers over UDP only. Where a network namespace can be
//! made they resolve names all the same, and nothing else goes out over UDP.

mod harness;

use std::fs;
use std::process::Command;

use harness::users;
use harness::world;
use serde_json::json;

const PROGRAM: &str = r#"
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void look_up(const char *name) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
    int e = getaddrinfo(name, "7777", &hints, &list);
    if (e) { printf("%s ", e == EAI_NONAME ? "NONAME" : gai_strerror(e)); return; }
    for (struct addrinfo *a = list; a; a = a->ai_next) {
        char text[64], reply[8] = "";
        getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
        int s = socket(a->ai_family, SOCK_STREAM, 0);
        if (connect(s, a->ai_addr, a->ai_addrlen) == 0) read(s, reply, 5);
        printf("%s %s ", text, reply);
        close(s);
    }
}

int main(void) {
    look_up("musl.world.test");
    look_up("other.denied.test");
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(5353) };
    inet_pton(AF_INET, "203.0.113.66", &to.sin_addr);
    struct iovec part = { "x", 1 };
    struct msghdr message = { .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &part, .msg_iovlen = 1 };
    printf("%d ", sendto(s, "x", 1, 0, (void *)&to, sizeof to) < 0 ? errno : 0);
    printf("%d ", sendmsg(s, &message, 0) < 0 ? errno : 0);
    printf("%d ", sendmsg(s, &message, MSG_CONFIRM) < 0 ? errno : 0);
    printf("%d", connect(s, (void *)&to, sizeof to) < 0 ? errno : 0);
    return 0;
}
"#;

/// The program as text that a script can unpack; `None` without a compiler for musl.
fn program() -> Option<String> {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("p.c"), PROGRAM).expect("source");
    let compiled = Command::new("musl-gcc").args(["-o", "p", "p.c"]).current_dir(dir.path()).status();
    if !compiled.is_ok_and(|status| status.success()) {
        println!("skipped: there is no musl-gcc");
        return None;
    }
    let text = Command::new("base64").arg("p").current_dir(dir.path()).output().expect("base64");
    Some(String::from_utf8(text.stdout).expect("text"))
}

#[test]
fn a_musl_program_resolves_what_it_was_granted_and_sends_nothing_else() {
    let Some(world) = world::open() else { return };
    let Some(program) = program() else { return };
    world.host("musl.world.test", "203.0.113.51");
    world.host("other.denied.test", "203.0.113.51");
    for user in users() {
        let mut site = world.site(user);
        let unpack = "base64 -d p.b64 > p && chmod +x p && ./p > out";
        site.package_with("p", json!({ "scripts": { "postinstall": unpack } }), &[("p.b64", &program)]);
        site.grant(&[("p", &["\"musl.world.test:7777\""])]);
        let run = site.attempt();
        // 101 is what a network without a way out says, 13 what the guard says.
        assert_eq!(
            site.out("p"),
            "203.0.113.51 hello NONAME 13 13 101 13",
            "{user:?} {} {:?}",
            run.stderr,
            run.denied("p")
        );
        run.assert_denied("p", "resolve other.denied.test");
        run.assert_denied("p", "connect 203.0.113.66:5353");
        assert!(
            run.events("resolve", "p", "allowed").iter().any(|e| e["target"]["host"] == "musl.world.test")
        );
    }
    assert_eq!(world.asked("other.denied.test"), Vec::<String>::new());
}
