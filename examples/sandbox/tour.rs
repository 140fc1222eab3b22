//! What to try by hand, as lines for a shell.

use wagate::daemon::Daemon;

use crate::world::{FRIEND, OWNER, World};

/// The tour, for this daemon and this simulator.
pub(crate) fn text(world: &World, daemon: &Daemon) -> String {
    let address = daemon.address();
    let token = daemon.operator_token_path().display();
    let whatsapp = world.simulator().url();
    let control = world.control();
    format!(
        r#"
wagate and a simulated WhatsApp are running. Ctrl-C ends both.

  wagate                http://{address}
  its token             {token}
  simulated WhatsApp    {whatsapp}
  its control API       http://{control}

Paste this into another terminal:

  W=http://{address}/api/whatsapp
  S=http://{control}
  T="Authorization: Bearer $(cat '{token}')"

Everything that happens, as it happens (in a terminal of its own, with the lines above):

  curl -N -H "$T" $W/events

A session, and its QR code: in the terminal, as an image, as JSON.

  curl -H "$T" --json '{{"sessionId":"demo"}}' $W/session
  curl -H "$T" "$W/session/demo/qr.txt?wait=30"
  curl -H "$T" "$W/session/demo/qr.png" -o demo.png
  curl -H "$T" "$W/session/demo/qr.json"

Scan it with the phone of +{OWNER}:

  QR=$(curl -s -H "$T" "$W/session/demo/qr.json?wait=30" | sed 's/.*"qr":"\([^"]*\)".*/\1/')
  curl --json "{{\"phone\":\"{OWNER}\",\"qr\":\"$QR\"}}" $S/scan

It is connected; the list counts it.

  curl -H "$T" $W/session/status/demo
  curl -H "$T" $W/session/list-realtime

Write to +{FRIEND}, who reads at once; see the acknowledgement, and what the contact has read.

  curl -H "$T" --json '{{"to":"{FRIEND}","text":"hello"}}' $W/session/demo/messages
  curl -H "$T" $W/session/demo/messages
  curl "$S/sent?account={OWNER}"

Have +{FRIEND} write:

  curl --json '{{"from":"{FRIEND}","to":"{OWNER}","text":"hello yourself"}}' $S/inject

Cut the connection and see it come back; unlink the session on the phone; or log it out here.

  curl --json '{{"account":"{OWNER}"}}' $S/drop
  curl --json '{{"account":"{OWNER}"}}' $S/logout
  curl -H "$T" --json '{{}}' $W/session/demo/logout
"#
    )
}
