#!/bin/sh
# What the five documents say can be asked, asked of a live daemon with curl, and every answer looked at. Ends with
# failure at the first that is not as it should be.
#
#   WAGATE_TOKEN=$(cat operator.token) WEBHOOK_SECRET_KEY=… sh examples/seeds.sh
#
# WAGATE_URL is where the daemon answers (http://127.0.0.1:8080), WAGATE_TOKEN a manager's token, WEBHOOK_SECRET_KEY
# what the daemon was started with. The daemon should be a fresh one: sessions and an endpoint are made, and the
# sessions deleted again.
set -eu
url=${WAGATE_URL:-http://127.0.0.1:8080}
: "${WAGATE_TOKEN:?a token of the role manager or above is needed}"
: "${WEBHOOK_SECRET_KEY:?the key of the status webhook is needed: the daemon must have the same}"
run=$$
checks=0
body=
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

fail() {
    echo "seeds: $1" >&2
    echo "the answer was: $body" >&2
    exit 1
}

# asks WANTED-STATUS METHOD PATH [curl's arguments]: the answer is in $body.
plainly() {
    wanted=$1 method=$2 path=$3
    shift 3
    got=$(curl --silent --show-error --output "$answer" --write-out '%{http_code}' -X "$method" "$url$path" "$@")
    body=$(cat "$answer")
    [ "$got" = "$wanted" ] || fail "$method $path was answered with $got, not $wanted"
    checks=$((checks + 1))
}
asks() {
    wanted=$1 method=$2 path=$3
    shift 3
    plainly "$wanted" "$method" "$path" -H "Authorization: Bearer $WAGATE_TOKEN" "$@"
}
# has TEXT...: each must be in the answer.
has() {
    for text in "$@"; do
        case $body in *"$text"*) checks=$((checks + 1)) ;; *) fail "there is no $text" ;; esac
    done
}
member() { printf '%s' "$body" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

echo "== 000: the status webhook of a VPS"
vps="wa_a545e2c1-$run"
asks 201 POST /api/whatsapp/session --json "{
  \"sessionId\": \"vps-$run\", \"origin\": \"external\", \"sessionData\": { \"vps_session_id\": \"$vps\" }
}"
connected="{
  \"sessionId\": \"$vps\", \"status\": \"connected\", \"phoneNumber\": \"5511999999999\",
  \"timestamp\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\"
}"
for path in /api/whatsapp/status-webhook /functions/v1/whatsapp-status-webhook; do
    plainly 200 OPTIONS "$path" -i -H 'Origin: https://app.example' -H 'Access-Control-Request-Method: POST'
    has 'access-control-allow-origin: *'
    plainly 401 POST "$path" --json "$connected"
    plainly 200 POST "$path" -H "webhook-secret-key: $WEBHOOK_SECRET_KEY" --json "$connected"
    has '"success":true' '"status":"session_connected"'
done
has '"duplicate":true'
plainly 404 POST /api/whatsapp/status-webhook -H "x-webhook-secret: $WEBHOOK_SECRET_KEY" \
    --json "{\"sessionId\": \"vps-$run\", \"status\": \"connected\"}"
has '"code":"SESSION_NOT_FOUND"'
asks 200 GET "/api/whatsapp/session/status/vps-$run"
has '"isConnected":true' '"phoneNumber":"5511999999999"' '"connectedAt":"' '"lastActiveAt":"'

echo "== 001: events, statuses and lists"
shop="session-$run"
asks 201 POST /api/whatsapp/session --json "{
  \"sessionId\": \"$shop\", \"userId\": \"user-$run\", \"origin\": \"external\", \"webhookAuth\": \"secret\"
}"
receiver=$(member webhookUrl)
tells() { plainly "$1" POST "$receiver" --json "$2"; }
plainly 200 GET "$receiver"
has '"success":true'
tells 200 '{ "event": "qr", "data": { "qr": "1@ABC123..." } }'
asks 200 GET "/api/whatsapp/session/status/$shop"
has '"success":true' "\"sessionId\":\"$shop\"" '"status":"qr_generated"' '"qr":"1@ABC123..."' \
    '"message":"QR code generated, scan to connect"' '"qrImage":"data:image/png;base64,' "\"userId\":\"user-$run\"" \
    '"createdAt":"' '"updatedAt":"' '"isConnected":false' '"needsQR":true' '"isLoading":false' '"hasError":false'
tells 200 '{ "event": "loading_screen", "data": { "percent": 75, "message": "Loading session..." } }'
has '"status":"loading"'
tells 200 '{ "event": "change_state", "data": { "state": "connecting" } }'
has '"status":"connecting"'
tells 200 '{ "event": "ready", "data": {} }'
has '"status":"session_connected"'
message='{
  "id": "msg_123", "body": "Hello World", "from": "6281234567890@c.us", "to": "6289876543210@c.us", "timestamp": 1640995200
}'
tells 200 "{ \"event\": \"message\", \"data\": { \"message\": $message } }"
has '"recorded":true'
tells 200 "{ \"event\": \"message\", \"data\": { \"message\": $message } }"
has '"duplicate":true'
own='{
  "id": "msg_124", "body": "Hi", "from": "6289876543210@c.us", "to": "6281234567890@c.us", "timestamp": 1640995201, "fromMe": true
}'
tells 200 "{ \"event\": \"message_ack\", \"data\": { \"message\": $own, \"ack\": 2 } }"
has '"recorded":true'
# The same as the document has it: nothing says whose the message is but the number that the session was made with.
given="given-$run"
asks 201 POST /api/whatsapp/session --json "{ \"sessionId\": \"$given\", \"origin\": \"external\", \"phoneNumber\": \"6281234567890\" }"
asks 200 POST "/api/whatsapp/webhook/$given" --json '{ "event": "ready", "data": {} }'
for recorded in true false; do
    asks 200 POST "/api/whatsapp/webhook/$given" --json "{ \"event\": \"message_ack\", \"data\": { \"message\": $message, \"ack\": 2 } }"
    has "\"recorded\":$recorded"
done
asks 200 GET "/api/whatsapp/session/$given/messages"
has '"body":"Hello World"' '"ack":2'
asks 200 GET "/api/whatsapp/session/$given/events/page?after=0"
acks=$(printf '%s' "$body" | grep -o '"event":"message_ack"' | wc -l)
[ "$acks" -eq 1 ] || fail "there are $acks acknowledgements"
tells 200 '{ "event": "call", "data": { "call": { "id": "call_123", "from": "6281234567890@c.us" } } }'
tells 202 '{ "event": "something_new", "data": {} }'
tells 400 '{ "event": "qr", "data": { "qr": 7 } }'
has '"pointer":"/data/qr"'
tells 400 '{ "event": '
has '"code":"MALFORMED_JSON"' 'line 1 column'
asks 200 GET "/api/whatsapp/session/list-realtime?userId=user-$run"
has '"success":true' "\"sessionId\":\"$shop\"" '"hasQR":false' '"lastUpdated":"' '"timestamp":"' \
    '"summary":{"connected":1,"disconnected":0,"loading":0,"needsQR":0,"error":0,"total":1}'
asks 200 GET '/api/whatsapp/session/list-realtime?status=connected'
has "\"sessionId\":\"$shop\""
asks 200 GET /api/whatsapp/session/list-realtime
asks 200 GET "/api/whatsapp/session/$shop/messages"
has '"body":"Hello World"' '"ack":2'
tells 200 '{ "event": "disconnected", "data": { "reason": "User logged out" } }'
has '"status":"session_not_connected"'
tells 200 '{ "event": "auth_failure", "data": { "msg": "Invalid QR scan" } }'
has '"status":"auth_failure"'
asks 200 GET "/api/whatsapp/session/status/$shop"
has '"hasError":true' '"message":"Invalid QR scan"'

echo "== 002: connect, and webhooks out"
asks 201 POST /api/webhooks/register --json '{
  "phone_number": "5511999999999", "webhook_url": "https://your-webhook-endpoint.com/receive", "max_retries": 3
}'
webhook=$(member id)
user="user-uuid-$run"
asks 201 POST /api/whatsapp/connect --json "{ \"user_id\": \"$user\", \"phone_number\": \"5511988888888\" }"
has '"status":"reconnecting"' '"qr_code":' '"session_id":"wa_'
session=$(member session_id)
asks 201 POST /api/whatsapp/connect --json "{ \"user_id\": \"$user\", \"phone_number\": \"5511988888888\" }"
has "\"session_id\":\"$session\""
asks 400 POST /api/whatsapp/connect --json "{ \"user_id\": \"$user\" }"
has '"pointer":"/phone_number"' '"statusCode":400' '"message":"Invalid params"'
# The seed's guard, to the letter.
plainly 401 POST /api/whatsapp/connect --json "{ \"user_id\": \"$user\", \"phone_number\": \"5511988888888\" }"
has '"statusCode":401' '"message":"Token not found"' '"error":"Unauthorized"'
plainly 401 POST /api/webhooks/register -H 'Authorization: Bearer nothing' --json '{}'
has '"statusCode":401' '"message":"Invalid token"' '"error":"Unauthorized"'
# A user who is connected: with the session of the first document.
asks 200 PATCH "/api/whatsapp/session/vps-$run" --json "{ \"userId\": \"connected-$run\" }"
asks 400 POST /api/whatsapp/connect --json "{ \"user_id\": \"connected-$run\", \"phone_number\": \"5511999999999\" }"
has '"code":"SESSION_EXISTS"' '"message":"Sessão já existente"'
asks 200 POST "/api/whatsapp/webhook/vps-$run" --json '{ "event": "message", "data": { "message": {
  "id": "msg_abc123", "body": "Hello from WhatsApp", "from": "5511999999999@c.us", "to": "5511888888888@c.us", "timestamp": 1762352580
} } }'
asks 200 GET "/api/webhooks/$webhook/events"
has '"event_type":"message.received"'
delivery=$(printf '%s' "$body" | grep -o '"id":"dlv_[0-9A-Z]*"' | head -n 1 | cut -d'"' -f4)
asks 200 GET "/api/webhooks/events/$delivery"
asks 204 DELETE "/api/webhooks/$webhook"

for id in "vps-$run" "$shop" "$given" "$session"; do
    asks 200 DELETE "/api/whatsapp/session/$id"
done

echo "== 003, 004: Meta's Cloud API"
secret="app-secret-of-$run"
number="1$run"
asks 201 POST /api/meta/accounts --json "{
  \"phoneNumberId\": \"$number\", \"wabaId\": \"2$run\", \"appId\": \"3$run\", \"appSecret\": \"$secret\", \"accessToken\": \"EAAB\"
}"
account=$(member id)
token=$(member verifyToken)
own=$(member ownPath)
challenge() { plainly "$1" GET "$2?hub.mode=subscribe&hub.verify_token=$3&hub.challenge=test123"; }
challenge 403 /webhook wrong
challenge 200 /webhook "$token"
[ "$body" = test123 ] || fail 'the challenge is not what is answered'
challenge 200 /api/webhooks/whatsapp "$token"
challenge 200 "$own" "$token"
asks 200 GET "/api/meta/accounts/$account"
has '"status":"verified"'
case $body in *"$secret"* | *"$token"*) fail 'a secret is shown' ;; esac
posted="{\"object\":\"whatsapp_business_account\",\"entry\":[{\"id\":\"2$run\",\"changes\":[{\"field\":\"messages\",\"value\":{\
\"messaging_product\":\"whatsapp\",\"metadata\":{\"display_phone_number\":\"15550783881\",\"phone_number_id\":\"$number\"},\
\"messages\":[{\"from\":\"16505551234\",\"id\":\"wamid.$run\",\"timestamp\":\"1762352580\",\"type\":\"text\",\"text\":{\"body\":\"Hello\"}}]}}]}]}"
signed=$(printf '%s' "$posted" | openssl dgst -sha256 -hmac "$secret" | sed 's/^.* //')
posts() { plainly "$1" POST "$2" -H 'Content-Type: application/json' -H "X-Hub-Signature-256: sha256=$3" --data-binary "$posted"; }
posts 403 /api/webhooks/whatsapp 0000
posts 200 /api/webhooks/whatsapp "$signed"
# Meta sends again what it is not sure of; it is one.
posts 200 /webhook "$signed"
asks 200 GET "/api/meta/events?account=$account"
has "\"objectId\":\"wamid.$run\"" '"nextCursor":null'
asks 200 POST "/api/meta/accounts/$account/status" --json '{ "status": "disabled" }'
challenge 403 /webhook "$token"
posts 403 "$own" "$signed"

echo "seeds: $checks checks passed"
