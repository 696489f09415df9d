//! What scripts may reach by name: grants of hosts, against servers in an internet of the
//! tests' own.

mod harness;

use harness::world;
use harness::users;

#[test]
fn the_world_works_without_npmguard() {
    let Some(world) = world::open() else { return };
    world.host("plain.world.test", "203.0.113.10");
    for user in users() {
        let mut site = world.site(user);
        site.js(world, "p", "fetch('https://plain.world.test/x').then((r) => r.text()).then(say, say)");
        let run = site.native_install();
        run.assert_code(0);
        assert_eq!(site.out("p"), "hello from plain.world.test\n");
    }
    assert_eq!(world.seen_of("tls", "plain.world.test").len(), users().len());
}
