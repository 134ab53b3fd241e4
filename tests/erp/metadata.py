"""$metadata documents, as SAP (v2) and Business Central (v4) write them, cut to what a test looks at."""

V2 = """<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx"
  xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata" xmlns:sap="http://www.sap.com/Protocols/SAPData">
 <edmx:DataServices m:DataServiceVersion="2.0">
  <Schema Namespace="API_INVOICE" xmlns="http://schemas.microsoft.com/ado/2008/09/edm">
   <EntityType Name="A_InvoiceType"><Key><PropertyRef Name="Invoice"/></Key><Property Name="Invoice" Type="Edm.String"/></EntityType>
   <EntityContainer Name="C" m:IsDefaultEntityContainer="true">
    <EntitySet Name="A_Invoice" EntityType="API_INVOICE.A_InvoiceType" sap:updatable="false" sap:deletable="false"/>
    <EntitySet Name="A_Item" EntityType="API_INVOICE.A_ItemType" sap:creatable="false" sap:addressable="false"/>
    <FunctionImport Name="Release" m:HttpMethod="POST" ReturnType="API_INVOICE.R"/>
    <FunctionImport Name="Post" EntitySet="A_Invoice" m:HttpMethod="GET"/>
   </EntityContainer>
  </Schema>
 </edmx:DataServices>
</edmx:Edmx>"""
V4 = """<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
 <edmx:DataServices>
  <Schema Namespace="NAV" xmlns="http://docs.oasis-open.org/odata/ns/edm">
   <EntityType Name="invoice"/><EntityType Name="vendor"/><EntityType Name="me"/>
   <Action Name="post" IsBound="true"><Parameter Name="b" Type="NAV.invoice"/></Action>
   <Action Name="sendAll" IsBound="true"><Parameter Name="b" Type="Collection(NAV.invoice)"/></Action>
   <Action Name="closeYear"/>
   <Function Name="balance" IsBound="true"><Parameter Name="b" Type="NAV.vendor"/></Function>
   <EntityContainer Name="C">
    <EntitySet Name="invoices" EntityType="NAV.invoice">
     <Annotation Term="Org.OData.Capabilities.V1.DeleteRestrictions">
      <Record><PropertyValue Property="Deletable" Bool="false"/>
        <PropertyValue Property="NonDeletableNavigationProperties"><Collection/></PropertyValue></Record>
     </Annotation>
    </EntitySet>
    <EntitySet Name="vendors" EntityType="NAV.vendor"/>
    <Singleton Name="me" Type="NAV.me"/>
    <ActionImport Name="closeYear" Action="NAV.closeYear"/>
    <FunctionImport Name="rates" Function="NAV.rates"/>
   </EntityContainer>
   <Annotations Target="NAV.C/vendors">
    <Annotation Term="Org.OData.Capabilities.V1.InsertRestrictions">
     <Record><PropertyValue Property="Insertable"><Bool>false</Bool></PropertyValue></Record></Annotation>
    <Annotation Term="Org.OData.Capabilities.V1.ReadRestrictions">
     <Record><PropertyValue Property="ReadByKeyRestrictions"><Record>
       <PropertyValue Property="Readable" Bool="false"/></Record></PropertyValue></Record></Annotation>
   </Annotations>
  </Schema>
 </edmx:DataServices>
</edmx:Edmx>"""
# The "billion laughs", cut short.
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>'
