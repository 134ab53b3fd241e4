// FAPI 2.0 by openid-client: private_key_jwt, a pushed request, DPoP; asks the resource and says what came back.
// In: a line of JSON, then the address that the person was sent back to. Out: a line of JSON for each.
import * as client from 'openid-client'
import { createInterface } from 'node:readline'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const line = async () => (await lines.next()).value
const say = (told) => process.stdout.write(JSON.stringify(told) + '\n')
const told = JSON.parse(await line())

const key = await crypto.subtle.importKey('jwk', told.key, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const config = await client.discovery(new URL(told.issuer), told.client, {}, client.PrivateKeyJwt(key))
const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))

const verifier = client.randomPKCECodeVerifier()
const asked = {
  redirect_uri: told.redirect, scope: told.scope, nonce: client.randomNonce(), state: client.randomState(),
  code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
}
const url = await client.buildAuthorizationUrlWithPAR(config, asked, { DPoP })
say({ url: url.href })

const checks = { pkceCodeVerifier: verifier, expectedNonce: asked.nonce, expectedState: asked.state }
let tokens = await client.authorizationCodeGrant(config, new URL(await line()), checks, undefined, { DPoP })
const claims = tokens.claims()
tokens = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
const person = await client.fetchUserInfo(config, tokens.access_token, claims.sub, { DPoP })
const seen = await client.tokenIntrospection(config, tokens.access_token)

const status = async (method, path, body) => {
  const headers = new Headers(body ? { 'content-type': 'application/json' } : {})
  // For seconds after its start the gate takes no proof: it could be from before.
  for (let tries = 30; ; tries--) {
    try {
      return (await client.fetchProtectedResource(
        config, tokens.access_token, new URL(told.origin + path), method, body, headers, { DPoP })).status
    } catch (refused) {
      if (tries === 0) throw refused
      await new Promise((later) => setTimeout(later, 1000))
    }
  }
}
const statuses = [await status('GET', '/shop/stock'), await status('POST', '/shop/orders', '{"lines": []}')]
const stolen = await fetch(told.origin + '/shop/stock', { headers: { authorization: `Bearer ${tokens.access_token}` } })
await client.tokenRevocation(config, tokens.refresh_token)
const gone = await client.tokenIntrospection(config, tokens.refresh_token)
say({ type: tokens.token_type, sub: claims.sub, name: person.name, seen: seen.active, statuses,
  stolen: stolen.status, gone: gone.active })
process.exit(0)
