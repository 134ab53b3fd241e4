// OpenID Connect Core and nothing newer by openid-client: a secret, no PKCE, an ID token signed by RS256, which it checks.
// In: a line of JSON, then the address that the person was sent back to. Out: a line of JSON for each.
import * as client from 'openid-client'
import { createInterface } from 'node:readline'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const line = async () => (await lines.next()).value
const say = (told) => process.stdout.write(JSON.stringify(told) + '\n')
const told = JSON.parse(await line())

const knows = { id_token_signed_response_alg: 'RS256' }
const config = await client.discovery(new URL(told.issuer), told.client, knows, client.ClientSecretBasic(told.secret))
client.enableNonRepudiationChecks(config) // the signature too, by the keys that the issuer publishes

const asked = {
  redirect_uri: told.redirect, scope: 'openid profile', nonce: client.randomNonce(), state: client.randomState(),
}
say({ url: client.buildAuthorizationUrl(config, asked).href })

const checks = { expectedNonce: asked.nonce, expectedState: asked.state, idTokenExpected: true }
const tokens = await client.authorizationCodeGrant(config, new URL(await line()), checks)
const person = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
const again = await client.refreshTokenGrant(config, tokens.refresh_token)
const by = (token) => JSON.parse(Buffer.from(token.split('.')[0], 'base64url')).alg
say({ sub: person.sub, by: [by(tokens.id_token), by(again.id_token), by(tokens.access_token)] })
process.exit(0)
