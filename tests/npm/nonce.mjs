// DPoP nonces by oauth4webapi, at the token endpoint and at the gate: it asks again with the nonce that a refusal brought.
// In: a line of JSON. Out: a line of JSON.
import * as oauth from 'oauth4webapi'
import { createInterface } from 'node:readline'

const told = JSON.parse((await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next()).value)
const issuer = new URL(told.issuer)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer))
const client = { client_id: told.client }
const pair = await oauth.generateKeyPair('ES256')
const asked = []

const again = async (place, ask) => {
  // For seconds after its start the gate takes no proof: it could be from before.
  for (let tries = 30; ; tries--) {
    try {
      return await ask()
    } catch (refused) {
      if (oauth.isDPoPNonceError(refused)) asked.push(place)
      else if (place !== 'gate' || tries === 0) throw refused
      else await new Promise((later) => setTimeout(later, 1000))
    }
  }
}
const token = async (DPoP) => oauth.processClientCredentialsResponse(as, client, await oauth.clientCredentialsGrantRequest(
  as, client, oauth.ClientSecretBasic(told.secret), { scope: 'shop/*:read' }, { DPoP }))
const stock = async (DPoP) => (await oauth.protectedResourceRequest(
  tokens.access_token, 'GET', new URL(told.origin + '/shop/stock'), new Headers(), null, { DPoP })).status

const first = oauth.DPoP(client, pair)
const tokens = await again('token endpoint', () => token(first))
const statuses = [await again('gate', () => stock(first))] // with the nonce that the token endpoint gave
const second = oauth.DPoP(client, pair) // the same key; it knows no nonce yet
statuses.push(await again('gate', () => stock(second)), await again('token endpoint', () => token(second)) && 200)
process.stdout.write(JSON.stringify({ type: tokens.token_type, statuses, asked }) + '\n')
process.exit(0)
