// FAPI 2.0 by oauth4webapi, step by step: private_key_jwt, a pushed request, DPoP, and a resource server that looks at
// the token itself. In: a line of JSON, then the address that the person was sent back to. Out: a line of JSON for each.
import * as oauth from 'oauth4webapi'
import { createInterface } from 'node:readline'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const line = async () => (await lines.next()).value
const say = (told) => process.stdout.write(JSON.stringify(told) + '\n')
const told = JSON.parse(await line())

const issuer = new URL(told.issuer)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer))
const oauth2 = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }))
const client = { client_id: told.client }
const key = await crypto.subtle.importKey('jwk', told.key, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const proves = oauth.PrivateKeyJwt(key)
const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))

const verifier = oauth.generateRandomCodeVerifier()
const state = oauth.generateRandomState(), nonce = oauth.generateRandomNonce()
const asked = new URLSearchParams({
  response_type: 'code', redirect_uri: told.redirect, scope: told.scope, state, nonce,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
})
const pushed = await oauth.processPushedAuthorizationResponse(
  as, client, await oauth.pushedAuthorizationRequest(as, client, proves, asked, { DPoP }))
const url = new URL(as.authorization_endpoint)
url.search = new URLSearchParams({ client_id: told.client, request_uri: pushed.request_uri })
say({ url: url.href })

const back = oauth.validateAuthResponse(as, client, new URL(await line()), state)
let answer = await oauth.authorizationCodeGrantRequest(as, client, proves, back, told.redirect, verifier, { DPoP })
let tokens = await oauth.processAuthorizationCodeResponse(as, client, answer, { expectedNonce: nonce, requireIdToken: true })
await oauth.validateApplicationLevelSignature(as, answer) // of the ID token, by the keys that the server publishes
const claims = oauth.getValidatedIdTokenClaims(tokens)
answer = await oauth.refreshTokenGrantRequest(as, client, proves, tokens.refresh_token, { DPoP })
tokens = await oauth.processRefreshTokenResponse(as, client, answer)
answer = await oauth.userInfoRequest(as, client, tokens.access_token, { DPoP })
const person = await oauth.processUserInfoResponse(as, client, claims.sub, answer)

// As a resource server of somebody else's would: RFC 9068, and the proof.
const headers = {}
await oauth.protectedResourceRequest(
  tokens.access_token, 'GET', new URL(told.origin + '/shop/stock'), new Headers(), null,
  { DPoP, [oauth.customFetch]: async (_, sent) => { Object.assign(headers, sent.headers); return new Response() } })
const seen = new Request(told.origin + '/shop/stock', { headers })
const read = await oauth.validateJwtAccessToken(as, seen, told.audience, { requireDPoP: true })

const status = async (method, path, body) => {
  const headers = new Headers(body ? { 'content-type': 'application/json' } : {})
  // For seconds after its start the gate takes no proof: it could be from before.
  for (let tries = 30; ; tries--) {
    try {
      const url = new URL(told.origin + path)
      return (await oauth.protectedResourceRequest(tokens.access_token, method, url, headers, body, { DPoP })).status
    } catch (refused) {
      if (tries === 0) throw refused
      await new Promise((later) => setTimeout(later, 1000))
    }
  }
}
const statuses = [await status('GET', '/shop/stock'), await status('POST', '/shop/orders', '{"lines": []}')]

answer = await oauth.clientCredentialsGrantRequest(as, client, proves, { scope: 'shop/*:read' }, { DPoP })
const machine = await oauth.processClientCredentialsResponse(as, client, answer)
await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, proves, tokens.refresh_token))
answer = await oauth.introspectionRequest(as, client, proves, tokens.refresh_token)
const gone = await oauth.processIntrospectionResponse(as, client, answer)
say({ same: JSON.stringify(as) === JSON.stringify(oauth2), sub: claims.sub, name: person.name, type: tokens.token_type,
  read: [read.sub, read.client_id], statuses, machine: machine.token_type, gone: gone.active })
process.exit(0)
